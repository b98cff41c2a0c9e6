"""Instance segmentation of a stored image: from an image id to objects of known classes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from segserve.bounded_executor import BoundedExecutor
from segserve.errors import BadInput, TooLarge, quote
from segserve.images.image_library import ImageLibrary
from segserve.instances.box_nms import DetectionThresholds, SelectedBoxes, select_boxes
from segserve.instances.paste_masks import find_mask_windows, paste_mask, scale_boxes
from segserve.instances.preprocess import resize_and_normalise
from segserve.metrics import Metrics
from segserve.models.instances_model import DetectedRegions, InstancesModel
from segserve.models.manifest import InstancesManifest
from segserve.models.registry import ModelRegistry
from segserve.timing import Timings
from segserve.types import Box, ImageObjects, SegmentedObject, Size, UInt8, UsageKind

MAX_MASK_PIXELS = 512_000_000  # of the crops of all masks together: one byte each until they are rendered
MASK_BATCH_SIZE = 32  # boxes in one run of the mask graph

T = TypeVar("T")


@dataclass(frozen=True)
class InstanceOptions:
    """The options of a request; None takes the manifest's value.

    classes: names of the classes to find; None for all.
    """

    score_threshold: float | None = None
    nms_threshold: float | None = None
    mask_threshold: float | None = None
    max_objects: int | None = None
    classes: tuple[str, ...] | None = None


class InstanceSegmenter:
    """`InstanceSegmenter` runs Mask R-CNN models over stored images.

    executor: runs the work on whole images, reading them included, so that waiting requests hold no pixels.
    """

    def __init__(
        self, library: ImageLibrary, registry: ModelRegistry, executor: BoundedExecutor, metrics: Metrics
    ) -> None:
        self._library, self._registry, self._executor = library, registry, executor
        self._metrics = metrics

    async def segment(
        self,
        tenant: str,
        image_id: str,
        model_name: str,
        options: InstanceOptions,
        render: Callable[[ImageObjects, UInt8], T],
        timings: Timings,
    ) -> tuple[ImageObjects, T]:
        """Return the objects of an image by descending score, and what `render` returns for them.

        render: takes the objects and the image [H, W, 3]; runs in the same thread as the network.

        Raises NotFound (image, model), WrongModel, BadInput (classes), TooLarge, Unavailable.
        """
        model = await self._registry.get(model_name, InstancesModel)
        thresholds = resolve_thresholds(model.manifest, options)
        with timings.stage("fetch"):
            read_image = await self._library.prepare_read(tenant, image_id)

        def segment_and_render() -> tuple[ImageObjects, T]:
            with timings.stage("read"):
                image = read_image()
            objects = find_objects(image, model, thresholds, timings)
            result = ImageObjects(image_id, model.name, Size(*image.shape[:2]), objects)
            with timings.stage("format"):
                return result, render(result, image)

        answer = await self._executor.run(segment_and_render)
        self._metrics.usage.count(tenant, UsageKind.INSTANCES_IMAGES)
        return answer


def resolve_thresholds(manifest: InstancesManifest, options: InstanceOptions) -> DetectionThresholds:
    """Return the request's thresholds, completed by the manifest's.

    Raises BadInput for a class that the model does not have.
    """
    labels = None
    if options.classes is not None:
        class_names = manifest.classes[1:]
        for index, name in enumerate(options.classes):
            if name not in class_names:
                raise BadInput(
                    f"Model {manifest.name!r} knows no class {quote(name)}.",
                    field=f"classes.{index}",
                    remedy=f"Its classes: {', '.join(dict.fromkeys(class_names))}.",
                )
        labels = np.isin(manifest.classes, options.classes)
        labels[0] = False

    return DetectionThresholds(
        value_or_default(options.score_threshold, manifest.score_threshold),
        value_or_default(options.nms_threshold, manifest.nms_threshold),
        value_or_default(options.mask_threshold, manifest.mask_threshold),
        value_or_default(options.max_objects, manifest.max_objects),
        labels,
    )


def value_or_default(value: T | None, default: T) -> T:
    return default if value is None else value


def find_objects(
    image: UInt8, model: InstancesModel, thresholds: DetectionThresholds, timings: Timings
) -> list[SegmentedObject]:
    """Return the objects on an image [H, W, 3], by descending score.

    Objects without a pixel at the mask threshold are left out. Raises TooLarge, OutOfMemory.
    """
    with timings.stage("preprocess"):
        tensor, resized = resize_and_normalise(image, model.manifest.resize)
    with timings.stage("detect"):
        detections = model.detect(tensor, resized)
    with timings.stage("choose"):
        selected = select_boxes(detections.boxes, detections.scores, thresholds)
    with timings.stage("masks"):
        size = Size(*image.shape[:2])
        return make_objects(selected, detections, model, resized, size, thresholds.mask)


def make_objects(
    selected: SelectedBoxes,
    detections: DetectedRegions,
    model: InstancesModel,
    resized: Size,
    size: Size,
    threshold: float,
) -> list[SegmentedObject]:
    """Return the selected boxes as objects with masks.

    resized: the size of the image that the network read.
    size: of the original image.
    threshold: the probability from which a pixel belongs to a mask.

    Raises TooLarge, OutOfMemory.
    """
    boxes = scale_boxes(selected.boxes, resized, size)
    objects = []
    remaining_pixels = MAX_MASK_PIXELS
    for start in range(0, len(boxes), MASK_BATCH_SIZE):
        batch = slice(start, start + MASK_BATCH_SIZE)
        masks = model.predict_masks(detections.features, selected.boxes[batch], selected.labels[batch])
        windows = find_mask_windows(boxes[batch], masks.shape[-1], size)
        remaining_pixels -= sum(rows.visible * columns.visible for rows, columns in windows)
        if remaining_pixels < 0:
            raise TooLarge(
                f"The objects' masks are more than {MAX_MASK_PIXELS // 1_000_000} megapixels together.",
                field="max_objects",
                remedy="Ask for fewer objects, for fewer classes, or for a higher score_threshold.",
            )
        for index, (mask, (rows, columns)) in enumerate(zip(masks, windows, strict=True), start):
            crop = paste_mask(mask, rows, columns, size, threshold)
            if crop.pixels.size:
                category = model.manifest.classes[selected.labels[index]]
                box = Box(*boxes[index].tolist())
                objects.append(SegmentedObject(crop, float(selected.scores[index]), category, box))
    return objects
