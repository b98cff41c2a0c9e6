"""Semantic segmentation of a stored image: from an image id to its class map."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from segserve.bounded_executor import BoundedExecutor
from segserve.images.image_library import ImageLibrary
from segserve.metrics import Metrics
from segserve.models.manifest import Activation
from segserve.models.registry import ModelRegistry
from segserve.models.semantic_model import SemanticModel
from segserve.semantic.class_map import ClassMap, classify_pixels, measure_class_areas, resolve_thresholds
from segserve.semantic.crf import refine_by_crf
from segserve.semantic.options import SemanticOptions, check_options, resolve_overlap, resolve_postprocess
from segserve.semantic.postprocess import postprocess_class_map
from segserve.semantic.preprocess import prepare_input
from segserve.semantic.sliding_window import slide_window
from segserve.semantic.whole_image import run_on_whole_image, stretch_image
from segserve.timing import Timings
from segserve.types import Float32, Size, UInt8, UsageKind

T = TypeVar("T")


class SemanticSegmenter:
    """`SemanticSegmenter` runs semantic models over stored images.

    executor: runs the work on whole images.
    """

    def __init__(
        self, library: ImageLibrary, registry: ModelRegistry, executor: BoundedExecutor, metrics: Metrics
    ) -> None:
        self._library, self._registry = library, registry
        self._executor, self._metrics = executor, metrics

    async def segment(
        self,
        tenant: str,
        image_id: str,
        model_name: str,
        options: SemanticOptions,
        render: Callable[[ClassMap, UInt8], T],
        timings: Timings,
    ) -> tuple[ClassMap, T]:
        """Return the class map of an image, and what `render` returns for it.

        render: takes the class map and the image [H, W, 3]; runs in the same thread as the network.

        Raises NotFound (image, model), WrongModel, BadInput (options that the model does not support), TooLarge,
        Unavailable (Busy, OutOfMemory).
        """
        model = await self._registry.get(model_name, SemanticModel)
        record = await self._library.get_record(tenant, image_id)
        tile = check_options(options, model.manifest, record.size)
        thresholds = resolve_thresholds(model.manifest, options.threshold)
        read_image = await self._library.prepare_read(tenant, image_id)

        def segment_and_render() -> tuple[ClassMap, T]:
            with timings.stage("read"):
                image = read_image()
            class_map = segment_image(image_id, image, model, options, tile, thresholds, timings)
            with timings.stage("format"):
                return class_map, render(class_map, image)

        with timings.stage("semantic"):
            class_map, rendered = await self._executor.run(segment_and_render)
        self._metrics.usage.count(tenant, UsageKind.SEMANTIC_IMAGES)
        self._metrics.clicks.count_masks(model.name, sum(each.area > 0 for each in class_map.classes))
        return class_map, rendered


def segment_image(
    image_id: str,
    image: UInt8,
    model: SemanticModel,
    options: SemanticOptions,
    tile: tuple[int, int],
    thresholds: Float32,
    timings: Timings,
) -> ClassMap:
    """Return the class map of an image [H, W, 3]. Blocks: call it in a thread.

    options: as `check_options` accepts them.
    tile: as `check_options` returns it.
    thresholds: [K], as `resolve_thresholds` returns them.
    """
    manifest, shape = model.manifest, image.shape[:2]
    with timings.stage("prepare"):
        shown = stretch_image(image, tile) if manifest.whole_image else image
        network_input = prepare_input(shown, manifest.input)
    steps, channels = resolve_postprocess(options, manifest), len(manifest.classes)
    values = np.empty(shape, np.uint8)
    probabilities = np.empty((channels, *shape), np.float16) if options.probabilities else None
    crf_probabilities = None if steps.crf is None else np.empty((channels, *shape), np.float32)
    with timings.stage("network"):
        if manifest.whole_image:
            bands = run_on_whole_image(
                network_input, model.predict_probabilities, Size(*shape), options.tta_flips
            )
        else:
            bands = slide_window(
                network_input,
                model.predict_probabilities,
                manifest,
                tile=tile,
                overlap=resolve_overlap(options, manifest),
                flips=options.tta_flips,
                batch_size=model.max_batch_tiles,
            )
        for top, band in bands:
            rows = slice(top, top + band.shape[1])
            values[rows] = classify_pixels(band, thresholds, manifest.background)
            if probabilities is not None:
                probabilities[:, rows] = band
            if crf_probabilities is not None:
                crf_probabilities[:, rows] = band
    with timings.stage("postprocess"):
        if steps.crf is not None and crf_probabilities is not None:
            exclusive = manifest.activation is Activation.SOFTMAX
            refined = refine_by_crf(crf_probabilities, image, steps.crf, exclusive=exclusive)
            values = classify_pixels(refined, thresholds, manifest.background)
        values = postprocess_class_map(values, steps)
    areas = measure_class_areas(values, manifest)
    return ClassMap(image_id, model.name, Size(*shape), values, areas, probabilities)
