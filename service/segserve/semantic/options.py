"""The options of a semantic request, and the limits of the work and memory that they may take."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segserve.errors import BadInput, TooLarge
from segserve.models.manifest import SemanticManifest
from segserve.models.semantic_manifest import Postprocess
from segserve.semantic.crf import MAX_CRF_PIXELS, require_crf
from segserve.semantic.sliding_window import count_runs
from segserve.semantic.tta import Flips
from segserve.semantic.whole_image import BAND_ROWS
from segserve.types import Size

# float32 values held while a row of tiles runs (channels x tile height x image width): 1 GiB.
MAX_BAND_VALUES = 1 << 28
# The operator knows that the model's own tile fits the memory; a few times its area does, too.
MAX_TILE_RATIO = 4
# A tile of this area is allowed for any model, however small its own tile is.
ALWAYS_ALLOWED_TILE_PX = 1024 * 1024
# Runs of the network for one request: they bound how long it may occupy a thread.
MAX_RUNS = 16_384
# float16 values of the probabilities, if requested (channels x pixels of the image): 256 MiB.
MAX_PROBABILITY_VALUES = 1 << 27


@dataclass(frozen=True)
class SemanticOptions:
    """The options of a request; None takes the manifest's value.

    tile: height, width.
    overlap: share of a tile's edge, 0 to 1.
    threshold: of all classes, or by class name.
    tta_flips: test-time augmentation.
    postprocess: fields of `Postprocess` by name.
    probabilities: keep them for the answer.
    """

    tile: tuple[int, int] | None = None
    overlap: float | None = None
    threshold: float | Mapping[str, float] | None = None
    tta_flips: Flips = Flips.NONE
    postprocess: Mapping[str, Any] = field(default_factory=dict)
    probabilities: bool = False


def resolve_overlap(options: SemanticOptions, manifest: SemanticManifest) -> float:
    """Return the request's overlap, or else the manifest's."""
    return manifest.overlap if options.overlap is None else options.overlap


def resolve_postprocess(options: SemanticOptions, manifest: SemanticManifest) -> Postprocess:
    """Return the post-processing steps: the request's, and the manifest's for those it leaves out."""
    return Postprocess.model_validate({**manifest.postprocess.model_dump(), **options.postprocess})


def check_options(options: SemanticOptions, manifest: SemanticManifest, size: Size) -> tuple[int, int]:
    """Check the options for an image of `size` and return the tile (height, width) to use.

    Raises BadInput with the field that the model does not support; TooLarge.
    """
    tile = resolve_tile(options, manifest)
    check_run_limits(tile, options, manifest, size)
    if options.probabilities:
        check_probability_limit(manifest, size)
    if resolve_postprocess(options, manifest).crf is not None:
        require_crf()
        if size.height * size.width > MAX_CRF_PIXELS:
            raise TooLarge(
                f"A CRF takes at most {MAX_CRF_PIXELS} pixels.",
                field="postprocess.crf",
                remedy="Leave it out, or cut the image into parts.",
            )
    return tile


def resolve_tile(options: SemanticOptions, manifest: SemanticManifest) -> tuple[int, int]:
    """Return the request's tile, or else the manifest's. Raises BadInput, TooLarge."""
    tile, multiple = options.tile or manifest.tile, manifest.multiple
    if (manifest.fixed or manifest.whole_image) and tile != manifest.tile:
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
    if tile[0] * tile[1] > max(MAX_TILE_RATIO * manifest.tile[0] * manifest.tile[1], ALWAYS_ALLOWED_TILE_PX):
        raise TooLarge(
            f"Tiles of {tile[0]} x {tile[1]} have over {MAX_TILE_RATIO} times the area of the model's own, and need"
            " as many times the memory.",
            field="tile",
            remedy="Send a smaller tile, or leave 'tile' out.",
        )
    return tile


def check_run_limits(
    tile: tuple[int, int], options: SemanticOptions, manifest: SemanticManifest, size: Size
) -> None:
    """Raise TooLarge if the sliding window would run too many tiles or hold too many values."""
    runs = count_runs(size, tile, resolve_overlap(options, manifest), manifest, options.tta_flips)
    if runs > MAX_RUNS:
        raise TooLarge(
            f"The request takes {runs} runs of the network; up to {MAX_RUNS} are allowed.",
            field="tile",
            remedy="Send a larger tile, less overlap or fewer tta_flips.",
        )
    channels = len(manifest.classes)
    rows = tile[0] if not manifest.whole_image else BAND_ROWS
    if channels * rows * (size.width + tile[1]) > MAX_BAND_VALUES:
        raise TooLarge(
            f"A row of tiles {tile[0]} high over {size.width} pixels and {channels} classes takes more memory than "
            "is allowed.",
            field="tile",
            remedy="Send a lower tile, or cut the image into parts.",
        )


def check_probability_limit(manifest: SemanticManifest, size: Size) -> None:
    """Raise TooLarge if the probabilities of an image of `size` are more than an answer may hold."""
    channels = len(manifest.classes)
    if channels * size.height * size.width > MAX_PROBABILITY_VALUES:
        raise TooLarge(
            f"Probabilities of {channels} classes at {size.height} x {size.width} are more than "
            f"{MAX_PROBABILITY_VALUES} values.",
            field="format",
            remedy="Ask for the class map, or cut the image into parts.",
        )
