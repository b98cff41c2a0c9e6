"""The functions as CVAT lists them: an id, what kind of tool it is in the editor, and its labels."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from segserve.errors import NotFound
from segserve.models.bundle import Bundle
from segserve.models.manifest import InstancesManifest, ModelKind, PromptableManifest, SemanticManifest
from segserve.wire.operations.models import list_classes

Json = dict[str, Any]

OBJECT_LABEL = "object"  # of objects without a class
# CVAT's own plugin decodes in the browser for the function of this id alone, by SAM's decoder of ViT-H.
BROWSER_ID = "pth-facebookresearch-sam-vit-h"
BROWSER_ARCHITECTURE = "vit_h"
BROWSER_EMBEDDING = (256, 64, 64)
NAMESPACE = "nuclio"
TRACKED_SHAPES = ("rectangle", "polygon")


class Task(StrEnum):
    """The task of a function: the begin of its id."""

    CLICK = "click"  # a mask for points and a box
    OBJECTS = "objects"  # all objects, without classes
    INSTANCES = "instances"  # objects of known classes
    SEMANTIC = "semantic"  # an area for each class
    TRACK = "track"  # a shape on the next frame
    EMBED = "embed"  # the embedding, for CVAT's plugin


KINDS = {Task.CLICK: "interactor", Task.EMBED: "interactor", Task.TRACK: "tracker"}
DESCRIPTIONS = {
    Task.CLICK: "a mask for points and a box",
    Task.OBJECTS: "all objects of the frame",
    Task.INSTANCES: "objects of known classes",
    Task.SEMANTIC: "an area for each class",
    Task.TRACK: "follows shapes from frame to frame",
    Task.EMBED: "clicks, decoded in the browser by CVAT's plugin for Segment Anything",
}
HELP = (
    "Mark the object by points on it and beside it, or by a box around it. The first click encodes the frame."
)


@dataclass(frozen=True)
class Function:
    """A function of CVAT: a task, and the model that does it."""

    task: Task
    bundle: Bundle

    @property
    def id(self) -> str:
        """CVAT takes letters, digits and _.- in it."""
        return BROWSER_ID if self.task is Task.EMBED else f"{self.task}.{self.bundle.name}"


def list_functions(bundles: Iterable[Bundle], browser_model: str | None) -> list[Function]:
    """Return all functions of all models. browser_model: see `find_browser_model`."""
    found = list(bundles)
    functions = [Function(task, bundle) for bundle in found for task in list_tasks(bundle)]
    if (bundle := find_browser_model(found, browser_model)) is not None:
        functions.append(Function(Task.EMBED, bundle))
    return functions


def list_tasks(bundle: Bundle) -> tuple[Task, ...]:
    match bundle.manifest:
        case SemanticManifest():
            return (Task.SEMANTIC,)
        case InstancesManifest():
            return (Task.INSTANCES,)
        case _:
            return (Task.CLICK, Task.OBJECTS, Task.TRACK)


def find_browser_model(bundles: Iterable[Bundle], name: str | None) -> Bundle | None:
    """Return the model that encodes for CVAT's plugin.

    name: of the setting cvat_browser_model; None takes the first SAM of the architecture ViT-H.
    """
    return next(
        (
            bundle
            for bundle in bundles
            if isinstance(bundle.manifest, PromptableManifest)
            and bundle.manifest.kind is ModelKind.SAM
            and bundle.manifest.dims.embedding == BROWSER_EMBEDDING
            and (bundle.name == name if name else bundle.manifest.architecture == BROWSER_ARCHITECTURE)
        ),
        None,
    )


def find_function(functions: Iterable[Function], function_id: str) -> Function:
    """Raises NotFound."""
    for function in functions:
        if function.id == function_id:
            return function
    raise NotFound(
        f"There is no function {function_id!r}.",
        field="x-nuclio-function-name",
        remedy="GET /api/functions lists them.",
    )


def describe_function(function: Function, port: int) -> Json:
    """Return a function as Nuclio's dashboard shows it. Annotations are texts. port: that CVAT calls."""
    task, bundle = function.task, function.bundle
    kind = KINDS.get(task, "detector")
    annotations = {"name": f"{bundle.name}: {task}", "type": kind, "version": "2", "spec": "[]"}
    if kind == "interactor":
        annotations |= {
            "min_pos_points": "0",
            "min_neg_points": "0",
            "startswith_box_optional": "true",
            "help_message": HELP,
        }
    elif kind == "tracker":
        annotations["supported_shape_types"] = ",".join(TRACKED_SHAPES)
    else:
        annotations["spec"] = json.dumps(list_labels(bundle))
    description = f"{bundle.name}: {DESCRIPTIONS[task]}. {bundle.manifest.description}".strip()
    return {
        "metadata": {"name": function.id, "namespace": NAMESPACE, "annotations": annotations},
        "spec": {"description": description},
        "status": {"state": "ready", "httpPort": port},
    }


def list_labels(bundle: Bundle) -> list[Json]:
    """Return the labels of a detector. CVAT refuses two of one name."""
    names = dict.fromkeys(list_classes(bundle.manifest) or [OBJECT_LABEL])
    return [{"id": number, "name": name, "type": "mask"} for number, name in enumerate(names, 1)]
