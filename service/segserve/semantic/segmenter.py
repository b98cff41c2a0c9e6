"""The semantic job: an image -> a class for every pixel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from segserve.bounded_executor import BoundedExecutor
from segserve.errors import BadInput, TooLarge
from segserve.images.image_library import Library
from segserve.masks import crop
from segserve.metrics import Metrics
from segserve.models.bundle import Activation, SemanticManifest
from segserve.models.registry import Registry
from segserve.models.semantic_manifest import Postprocess
from segserve.models.semantic_model import SemanticModel
from segserve.semantic.class_map import decide, named, thresholds
from segserve.semantic.crf import MOST_PIXELS, refine, require_crf
from segserve.semantic.postprocess import tidy
from segserve.semantic.preprocess import prepare
from segserve.semantic.sliding_window import Flips, runs_of, slide
from segserve.timing import Timings
from segserve.types import Float16, ImageObjects, SegmentedObject, Size, UInt8

BAND_VALUES = 1 << 28  # float32, held while a row of tiles is run: channels x a tile's height x the width
LARGER_TILE = 4  # times the area of the model's own, which its operator knows to fit
LEAST_TILE = 1024 * 1024  # pixels that any model may take
MOST_RUNS = 16_384  # of the network, for one request
PROBABILITY_VALUES = 1 << 27  # float16, where probabilities are asked for: channels x the image's pixels

T = TypeVar("T")


@dataclass(frozen=True)
class SemanticOptions:
    """What a request asks for; None takes the manifest's.

    tile: height, width. threshold: of all classes, or by class name. postprocess: fields of `Postprocess` by name.
    probabilities: keep them.
    """

    tile: tuple[int, int] | None = None
    overlap: float | None = None
    threshold: float | Mapping[str, float] | None = None
    tta_flips: Flips = Flips.NONE
    postprocess: Mapping[str, Any] = field(default_factory=dict)
    probabilities: bool = False


@dataclass(frozen=True)
class ClassArea:
    """value: in the class map. area: pixels. fraction: of the image, 0 to 1."""

    value: int
    name: str
    area: int
    fraction: float


@dataclass(frozen=True)
class ClassMap:
    """values [H, W] uint8: 0 is background, n the n-th of `classes`. probabilities [K, H, W] of the model's
    channels, background among them, as they were before thresholds and post-processing; None if not asked for."""

    image_id: str
    model: str
    size: Size
    values: UInt8
    classes: tuple[ClassArea, ...]
    probabilities: Float16 | None

    def found(self) -> ImageObjects:
        """One object for every class that occurs."""
        objects = [
            SegmentedObject(crop.from_mask(self.values == each.value), category=each.name)
            for each in self.classes
            if each.area
        ]
        return ImageObjects(self.image_id, self.model, self.size, objects)


class Semantic:
    """Runs semantic models over stored images, in turns."""

    def __init__(
        self, library: Library, registry: Registry, turns: BoundedExecutor, metrics: Metrics
    ) -> None:
        self._library, self._registry = library, registry
        self._turns, self._metrics = turns, metrics

    async def segment(
        self,
        tenant: str,
        image_id: str,
        model_name: str,
        options: SemanticOptions,
        render: Callable[[ClassMap, UInt8], T],
        timings: Timings,
    ) -> tuple[ClassMap, T]:
        """`render` makes of the class map and the image [H, W, 3] what the caller wants, in the same thread.

        Raises NotFound (image, model), WrongModel, BadInput (options that the model cannot have), TooLarge,
        Unavailable (Busy, OutOfMemory).
        """
        model = await self._registry.get(model_name, SemanticModel)
        record = await self._library.record(tenant, image_id)
        tile = check(options, model.manifest, record.size)
        least = thresholds(model.manifest, options.threshold)
        read = await self._library.reader(tenant, image_id)

        def work() -> tuple[ClassMap, T]:
            with timings.stage("read"):
                image = read()
            answer = classify(image_id, image, model, options, tile, least, timings)
            with timings.stage("format"):
                return answer, render(answer, image)

        with timings.stage("semantic"):
            answer = await self._turns.run(work)
        self._metrics.masks(model.name, sum(each.area > 0 for each in answer[0].classes))
        return answer


def steps_of(options: SemanticOptions, manifest: SemanticManifest) -> Postprocess:
    """The request's steps over the manifest's."""
    return Postprocess.model_validate({**manifest.postprocess.model_dump(), **options.postprocess})


def check(options: SemanticOptions, manifest: SemanticManifest, size: Size) -> tuple[int, int]:
    """The tile to use. Raises BadInput naming the field that the model cannot have, TooLarge."""
    tile, multiple = options.tile or manifest.tile, manifest.multiple
    if manifest.fixed and tile != manifest.tile:
        raise BadInput(
            f"Model {manifest.name!r} takes tiles of {manifest.tile[0]} x {manifest.tile[1]} and no others.",
            field="tile",
            remedy="Leave 'tile' out.",
        )
    if any(edge % multiple for edge in tile):
        raise BadInput(
            f"Model {manifest.name!r} takes tiles whose edges are multiples of {multiple}.",
            field="tile",
            remedy=f"Send multiples of {multiple}, or leave 'tile' out.",
        )
    if tile[0] * tile[1] > max(LARGER_TILE * manifest.tile[0] * manifest.tile[1], LEAST_TILE):
        raise TooLarge(
            f"Tiles of {tile[0]} x {tile[1]} are over {LARGER_TILE} times the model's own, and memory goes with them.",
            field="tile",
            remedy="Send a smaller tile, or leave 'tile' out.",
        )
    overlap = manifest.overlap if options.overlap is None else options.overlap
    if (runs := runs_of(size, tile, overlap, manifest, options.tta_flips)) > MOST_RUNS:
        raise TooLarge(
            f"That is {runs} runs of the network, and up to {MOST_RUNS} are made for one request.",
            field="tile",
            remedy="Send a larger tile, less overlap or fewer tta_flips.",
        )
    channels = len(manifest.classes)
    if channels * tile[0] * (size.width + tile[1]) > BAND_VALUES:
        raise TooLarge(
            f"A row of tiles {tile[0]} high over {size.width} pixels and {channels} classes takes more memory than "
            "is allowed.",
            field="tile",
            remedy="Send a lower tile, or cut the image into parts.",
        )
    if options.probabilities and channels * size.height * size.width > PROBABILITY_VALUES:
        raise TooLarge(
            f"Probabilities of {channels} classes at {size.height} x {size.width} are more than "
            f"{PROBABILITY_VALUES} values.",
            field="format",
            remedy="Ask for the class map, or cut the image into parts.",
        )
    if steps_of(options, manifest).crf is not None:
        require_crf()
        if size.height * size.width > MOST_PIXELS:
            raise TooLarge(
                f"A CRF takes at most {MOST_PIXELS} pixels.",
                field="postprocess.crf",
                remedy="Leave it out, or cut the image into parts.",
            )
    return tile


def classify(
    image_id: str,
    image: UInt8,
    model: SemanticModel,
    options: SemanticOptions,
    tile: tuple[int, int],
    least: np.ndarray[Any, np.dtype[np.float32]],
    timings: Timings,
) -> ClassMap:
    """image [H, W, 3]; options that `check` has passed. Blocks: call it in a thread."""
    manifest, shape = model.manifest, image.shape[:2]
    with timings.stage("prepare"):
        prepared = prepare(image, manifest.input)
    steps, channels = steps_of(options, manifest), len(manifest.classes)
    values = np.empty(shape, np.uint8)
    kept = np.empty((channels, *shape), np.float16) if options.probabilities else None
    whole = None if steps.crf is None else np.empty((channels, *shape), np.float32)
    overlap = manifest.overlap if options.overlap is None else options.overlap
    with timings.stage("network"):
        for top, band in slide(
            prepared,
            model.probabilities,
            manifest,
            tile=tile,
            overlap=overlap,
            flips=options.tta_flips,
            at_once=model.at_once,
        ):
            rows = slice(top, top + band.shape[1])
            values[rows] = decide(band, least, manifest.background)
            if kept is not None:
                kept[:, rows] = band
            if whole is not None:
                whole[:, rows] = band
    with timings.stage("postprocess"):
        if steps.crf is not None and whole is not None:
            exclusive = manifest.activation is Activation.SOFTMAX
            values = decide(refine(whole, image, steps.crf, exclusive=exclusive), least, manifest.background)
        values = tidy(values, steps)
    size = Size(*shape)
    return ClassMap(image_id, model.name, size, values, areas(values, manifest), kept)


def areas(values: UInt8, manifest: SemanticManifest) -> tuple[ClassArea, ...]:
    counts = np.bincount(values.ravel(), minlength=256)
    return tuple(
        ClassArea(value, name, int(counts[value]), float(counts[value] / values.size))
        for value, name in enumerate(named(manifest), start=1)
    )
