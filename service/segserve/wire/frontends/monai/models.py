"""Models as MONAI Label's clients list them: each is one or several tasks, of a type that decides where it is shown."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from segserve.app import Service
from segserve.errors import ModelNotFound
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptableManifest
from segserve.wire.operations.models import list_automatic_methods, list_classes

Json = dict[str, Any]

# A window of 0 is the one that the file states, or else a part of all values.
WINDOW_CONFIG = {"window_center": 0, "window_width": 0}


class TaskKind(StrEnum):
    """The purpose of a task."""

    CLICK_2D = "click_2d"  # the object that is clicked on, on one slice
    CLICK_3D = "click_3d"  # the object that is clicked on, through all slices
    AUTOMATIC = "automatic"  # all objects
    CLASSES = "classes"  # a class for each voxel, slice by slice


SUFFIXES = {
    TaskKind.CLICK_2D: "_2d",
    TaskKind.CLICK_3D: "_3d",
    TaskKind.AUTOMATIC: "_automatic",
    TaskKind.CLASSES: "",
}
DESCRIPTIONS = {
    TaskKind.CLICK_2D: "{model}: the object under the clicks, on one slice",
    TaskKind.CLICK_3D: "{model}: the object under the clicks, followed through all slices",
    TaskKind.AUTOMATIC: "{model}: all objects, without clicks",
    TaskKind.CLASSES: "{model}: a class for each voxel, slice by slice",
}


@dataclass(frozen=True)
class Task:
    """`Task` is a model in one of its uses. name: as clients send it."""

    bundle: Bundle
    kind: TaskKind

    @property
    def name(self) -> str:
        return self.bundle.name + SUFFIXES[self.kind]

    @property
    def takes_clicks(self) -> bool:
        return self.kind in (TaskKind.CLICK_2D, TaskKind.CLICK_3D)

    def list_labels(self, names: tuple[str, ...]) -> Json:
        """Return the values of labels by their names. names: of what is clicked on."""
        match self.kind:
            case TaskKind.CLASSES:
                labels = list_classes(self.bundle.manifest) or []
            case TaskKind.AUTOMATIC:
                labels = ["object"]
            case _:
                labels = list(names)
        return {label: value for value, label in enumerate(labels, 1)}

    def describe(self, names: tuple[str, ...]) -> Json:
        """Return the task as GET /info/ has it. names: of what is clicked on."""
        config: Json = dict(WINDOW_CONFIG)
        if self.kind is TaskKind.AUTOMATIC:
            config["separate_objects"] = False
        return {
            # OHIF offers points for this type and a few others. With `deepedit` 3D Slicer sends other fields.
            "type": "deepgrow" if self.takes_clicks else "segmentation",
            "dimension": 2 if self.kind is TaskKind.CLICK_2D else 3,
            "labels": self.list_labels(names),
            "description": DESCRIPTIONS[self.kind].format(model=self.bundle.name),
            "config": config,
        }


def list_tasks(bundles: Iterable[Bundle], default_model: str) -> list[Task]:
    """Return the tasks of all models, those of the default one first: clients choose the first of their list."""
    ordered = sorted(bundles, key=lambda bundle: bundle.name != default_model)
    return [Task(bundle, kind) for bundle in ordered for kind in list_kinds(bundle)]


def list_kinds(bundle: Bundle) -> list[TaskKind]:
    if not isinstance(bundle.manifest, PromptableManifest):
        return [TaskKind.CLASSES]
    kinds = [TaskKind.CLICK_2D, TaskKind.CLICK_3D]
    # AMG asks a model a thousand times for each slice.
    return [*kinds, TaskKind.AUTOMATIC] if "ais" in list_automatic_methods(bundle) else kinds


async def list_all_tasks(service: Service) -> list[Task]:
    """Return the tasks of all models."""
    bundles = await asyncio.to_thread(service.registry.bundles)
    return list_tasks(bundles.values(), service.settings.default_model)


async def find_task(service: Service, name: str) -> Task:
    """Return the task of this name; a model's own name means a click on one slice. Raises ModelNotFound."""
    for kind in TaskKind:
        model = name.removesuffix(SUFFIXES[kind])
        if (SUFFIXES[kind] and model == name) or model not in service.registry.names():
            continue
        bundle = await service.registry.get_bundle(model)
        kinds = list_kinds(bundle)
        if kind in kinds:
            return Task(bundle, kind)
        if not SUFFIXES[kind]:
            return Task(bundle, kinds[0])
    raise ModelNotFound(name, sorted(task.name for task in await list_all_tasks(service)))
