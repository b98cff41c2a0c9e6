"""Objects of known classes on a whole image: from an image id to masks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from segserve.bounded_executor import BoundedExecutor
from segserve.errors import BadInput, TooLarge
from segserve.images.image_library import Library
from segserve.instances.box_nms import Chosen, Thresholds, choose
from segserve.instances.paste_masks import paste, scaled, windows
from segserve.instances.preprocess import prepare
from segserve.models.bundle import InstancesManifest
from segserve.models.instances_model import Detected, InstancesModel
from segserve.models.registry import Registry
from segserve.timing import Timings
from segserve.types import Box, ImageObjects, SegmentedObject, Size, UInt8

MOST_PIXELS = 512_000_000  # of all masks' crops together, one byte each until they are rendered
MASKS_AT_ONCE = 32  # boxes in one run of the second graph

T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """What a request says; None: as the model's manifest. classes: names of those to look for, None for all."""

    score_threshold: float | None = None
    nms_threshold: float | None = None
    mask_threshold: float | None = None
    max_objects: int | None = None
    classes: tuple[str, ...] | None = None


class Instances:
    """turns: where the work is done, reading the image included: what waits holds a file and not its pixels."""

    def __init__(self, library: Library, registry: Registry, turns: BoundedExecutor) -> None:
        self._library, self._registry, self._turns = library, registry, turns

    async def find(
        self,
        tenant: str,
        image_id: str,
        model_name: str,
        wanted: Wanted,
        render: Callable[[ImageObjects, UInt8], T],
        timings: Timings,
    ) -> tuple[ImageObjects, T]:
        """Objects by descending score, and what `render` makes of them and of the image [H, W, 3], in the same
        turn. Raises NotFound (image, model), WrongModel, BadInput (classes), TooLarge, Unavailable."""
        model = await self._registry.get(model_name, InstancesModel)
        limits = thresholds(model.manifest, wanted)
        with timings.stage("fetch"):
            read = await self._library.reader(tenant, image_id)

        def work() -> tuple[ImageObjects, T]:
            with timings.stage("read"):
                image = read()
            objects = find_objects(image, model, limits, timings)
            found = ImageObjects(image_id, model.name, Size(*image.shape[:2]), objects)
            with timings.stage("format"):
                return found, render(found, image)

        return await self._turns.run(work)


def thresholds(manifest: InstancesManifest, wanted: Wanted) -> Thresholds:
    """Raises BadInput for a class that the model does not know."""
    labels = None
    if wanted.classes is not None:
        known = manifest.classes[1:]
        for index, name in enumerate(wanted.classes):
            if name not in known:
                raise BadInput(
                    f"Model {manifest.name!r} knows no class {name!r}.",
                    field=f"classes.{index}",
                    remedy=f"Its classes: {', '.join(dict.fromkeys(known))}.",
                )
        labels = np.isin(manifest.classes, wanted.classes)
        labels[0] = False

    return Thresholds(
        first(wanted.score_threshold, manifest.score_threshold),
        first(wanted.nms_threshold, manifest.nms_threshold),
        first(wanted.mask_threshold, manifest.mask_threshold),
        first(wanted.max_objects, manifest.max_objects),
        labels,
    )


def first(asked: T | None, default: T) -> T:
    return default if asked is None else asked


def find_objects(
    image: UInt8, model: InstancesModel, limits: Thresholds, timings: Timings
) -> list[SegmentedObject]:
    """Objects on an image [H, W, 3], by descending score; those without a pixel at the mask threshold are left
    out. Raises TooLarge, OutOfMemory."""
    with timings.stage("preprocess"):
        tensor, shown = prepare(image, model.manifest.resize)
    with timings.stage("detect"):
        detected = model.detect(tensor, shown)
    with timings.stage("choose"):
        chosen = choose(detected.boxes, detected.scores, limits)
    with timings.stage("masks"):
        return masks_of(chosen, detected, model, shown, Size(*image.shape[:2]), limits.mask)


def masks_of(
    chosen: Chosen, detected: Detected, model: InstancesModel, shown: Size, size: Size, threshold: float
) -> list[SegmentedObject]:
    """The chosen boxes as objects on the image of `size`, which was resized to `shown`."""
    boxes = scaled(chosen.boxes, shown, size)
    found = []
    room = MOST_PIXELS
    for start in range(0, len(boxes), MASKS_AT_ONCE):
        part = slice(start, start + MASKS_AT_ONCE)
        masks = model.masks(detected.features, chosen.boxes[part], chosen.labels[part])
        places = windows(boxes[part], masks.shape[-1], size)
        room -= sum(rows.seen * columns.seen for rows, columns in places)
        if room < 0:
            raise TooLarge(
                f"The objects' masks are more than {MOST_PIXELS // 1_000_000} megapixels together.",
                field="max_objects",
                remedy="Ask for fewer objects, for fewer classes, or for a higher score_threshold.",
            )
        for index, (mask, place) in enumerate(zip(masks, places, strict=True), start):
            crop = paste(mask, *place, size, threshold)
            if crop.pixels.size:
                category = model.manifest.classes[chosen.labels[index]]
                box = Box(*boxes[index].tolist())
                found.append(SegmentedObject(crop, float(chosen.scores[index]), category, box))
    return found
