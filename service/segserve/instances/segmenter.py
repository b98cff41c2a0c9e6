"""Objects of known classes on a whole image: from an image id to masks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from segserve.bounded_executor import BoundedExecutor
from segserve.errors import BadInput, TooLarge
from segserve.images.image_library import ImageLibrary
from segserve.instances.box_nms import DetectionThresholds, SelectedBoxes, select_boxes
from segserve.instances.paste_masks import find_mask_windows, paste_mask, scale_boxes
from segserve.instances.preprocess import resize_and_normalise
from segserve.models.instances_model import Detections, InstancesModel
from segserve.models.manifest import InstancesManifest
from segserve.models.registry import ModelRegistry
from segserve.timing import Timings
from segserve.types import Box, ImageObjects, SegmentedObject, Size, UInt8

MAX_MASK_PIXELS = 512_000_000  # of all masks' crops together, one byte each until they are rendered
MASK_BATCH_SIZE = 32  # boxes in one run of the second graph

T = TypeVar("T")


@dataclass(frozen=True)
class InstanceOptions:
    """What a request says; None: as the model's manifest. classes: names of those to look for, None for all."""

    score_threshold: float | None = None
    nms_threshold: float | None = None
    mask_threshold: float | None = None
    max_objects: int | None = None
    classes: tuple[str, ...] | None = None


class InstanceSegmenter:
    """turns: where the work is done, reading the image included: what waits holds a file and not its pixels."""

    def __init__(self, library: ImageLibrary, registry: ModelRegistry, turns: BoundedExecutor) -> None:
        self._library, self._registry, self._turns = library, registry, turns

    async def segment(
        self,
        tenant: str,
        image_id: str,
        model_name: str,
        wanted: InstanceOptions,
        render: Callable[[ImageObjects, UInt8], T],
        timings: Timings,
    ) -> tuple[ImageObjects, T]:
        """Objects by descending score, and what `render` makes of them and of the image [H, W, 3], in the same
        turn. Raises NotFound (image, model), WrongModel, BadInput (classes), TooLarge, Unavailable."""
        model = await self._registry.get(model_name, InstancesModel)
        limits = resolve_thresholds(model.manifest, wanted)
        with timings.stage("fetch"):
            read = await self._library.prepare_read(tenant, image_id)

        def work() -> tuple[ImageObjects, T]:
            with timings.stage("read"):
                image = read()
            objects = find_objects(image, model, limits, timings)
            found = ImageObjects(image_id, model.name, Size(*image.shape[:2]), objects)
            with timings.stage("format"):
                return found, render(found, image)

        return await self._turns.run(work)


def resolve_thresholds(manifest: InstancesManifest, wanted: InstanceOptions) -> DetectionThresholds:
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

    return DetectionThresholds(
        value_or_default(wanted.score_threshold, manifest.score_threshold),
        value_or_default(wanted.nms_threshold, manifest.nms_threshold),
        value_or_default(wanted.mask_threshold, manifest.mask_threshold),
        value_or_default(wanted.max_objects, manifest.max_objects),
        labels,
    )


def value_or_default(asked: T | None, default: T) -> T:
    return default if asked is None else asked


def find_objects(
    image: UInt8, model: InstancesModel, limits: DetectionThresholds, timings: Timings
) -> list[SegmentedObject]:
    """Objects on an image [H, W, 3], by descending score; those without a pixel at the mask threshold are left
    out. Raises TooLarge, OutOfMemory."""
    with timings.stage("preprocess"):
        tensor, shown = resize_and_normalise(image, model.manifest.resize)
    with timings.stage("detect"):
        detected = model.detect(tensor, shown)
    with timings.stage("choose"):
        chosen = select_boxes(detected.boxes, detected.scores, limits)
    with timings.stage("masks"):
        return make_objects(chosen, detected, model, shown, Size(*image.shape[:2]), limits.mask)


def make_objects(
    chosen: SelectedBoxes,
    detected: Detections,
    model: InstancesModel,
    shown: Size,
    size: Size,
    threshold: float,
) -> list[SegmentedObject]:
    """The chosen boxes as objects on the image of `size`, which was resized to `shown`."""
    boxes = scale_boxes(chosen.boxes, shown, size)
    found = []
    room = MAX_MASK_PIXELS
    for start in range(0, len(boxes), MASK_BATCH_SIZE):
        part = slice(start, start + MASK_BATCH_SIZE)
        masks = model.predict_masks(detected.features, chosen.boxes[part], chosen.labels[part])
        places = find_mask_windows(boxes[part], masks.shape[-1], size)
        room -= sum(rows.visible * columns.visible for rows, columns in places)
        if room < 0:
            raise TooLarge(
                f"The objects' masks are more than {MAX_MASK_PIXELS // 1_000_000} megapixels together.",
                field="max_objects",
                remedy="Ask for fewer objects, for fewer classes, or for a higher score_threshold.",
            )
        for index, (mask, place) in enumerate(zip(masks, places, strict=True), start):
            crop = paste_mask(mask, *place, size, threshold)
            if crop.pixels.size:
                category = model.manifest.classes[chosen.labels[index]]
                box = Box(*boxes[index].tolist())
                found.append(SegmentedObject(crop, float(chosen.scores[index]), category, box))
    return found
