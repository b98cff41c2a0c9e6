"""The scale at which a model sees an image: pixels of the model's input for each pixel of the image.

A model knows objects of some size. A large image that is reduced to the input shows small objects too small; a tiny
image that is enlarged to the input shows them blurred. So a scale is chosen, and from it follows what is encoded: the
image as it is, tiles of it, or the image with room beside it.
"""

from dataclasses import dataclass
from math import ceil, isqrt

import numpy as np

from segserve.automatic.ais_watershed import FOREGROUND
from segserve.errors import BadInput
from segserve.images.tiling import TileGrid
from segserve.masks.label_map import Labels
from segserve.models.manifest import PromptableManifest
from segserve.types import Float32, ImageScale, Region, Size

# The size of objects that a model knows best, as a share of its input, where its manifest says nothing.
OBJECT_SHARE = 0.08
# Enlarging more than this adds no detail. It is also how the starter's smallest training images are enlarged.
MAX_SCALE = 2.0
# An image whose longer side is over this many inputs is tiled, also where no scale is known.
MAX_WHOLE_INPUTS = 4
# The scale of such an image: tiles as large as the input, with halos of a quarter on each side.
TILED_SCALE = 2 / 3
# A first pass is believed if objects have at least this diameter in the input, and the foreground is this certain.
MIN_OBJECT_INPUT_PX = 16.0
MIN_CERTAINTY = 0.7
# A finer pass is preferred if it finds this many times as many objects in the same area.
MIN_GAIN = 1.3
# Objects that a pass must have found for their size to count.
MIN_OBJECTS = 5
# Room beside an image makes what is encoded at most this many times as wide as the image: its maps are as large.
MAX_ROOM = 4
# Rounding of a tile's side may change a scale by so much, which is no reason for tiles or room.
SAME_SCALE = 0.01


@dataclass(frozen=True)
class ScaleRequest:
    """`ScaleRequest` is what a request says about the scale: one of the two, or nothing.

    object_size: diameter of typical objects, in pixels of the image.
    scale: pixels of the model's input for each pixel of the image.
    """

    object_size: float | None = None
    scale: float | None = None


@dataclass(frozen=True)
class Observation:
    """`Observation` is what a pass over an image, or over windows of it, has found.

    diameters: of the objects, in pixels of the image.
    certainty: how far the foreground's values are from undecided, from 0 to 1.
    pixels: of the image that were looked at.
    """

    diameters: Float32
    certainty: float
    pixels: int

    @property
    def density(self) -> float:
        """Objects a pixel of the image."""
        return len(self.diameters) / self.pixels

    @property
    def object_size(self) -> float:
        """The median diameter of the objects; 0 without objects."""
        return float(np.median(self.diameters)) if len(self.diameters) else 0.0

    def is_reliable(self, scale: float) -> bool:
        """Return whether objects are seen large enough, and clearly."""
        return self.object_size * scale >= MIN_OBJECT_INPUT_PX and self.certainty >= MIN_CERTAINTY


def observe(maps: Float32, labels: Labels) -> Observation:
    """Return what AIS has found: maps [3, H, W], and the label map [H, W] of them."""
    areas = np.bincount(labels.ravel())[1:]
    diameters = np.sqrt(areas[areas > 0] * (4 / np.pi)).astype(np.float32)
    return Observation(diameters, foreground_certainty(maps), labels.size)


def foreground_certainty(maps: Float32) -> float:
    """Return how far the foreground's values of maps [3, H, W] are from undecided, 0 to 1; 0 without foreground."""
    foreground = maps[FOREGROUND][maps[FOREGROUND] > 0.5]
    return 2 * float((foreground - 0.5).mean()) if foreground.size else 0.0


def join_observations(parts: list[Observation]) -> Observation:
    """Return the observations of several windows as one."""
    certainties = [part.certainty for part in parts if len(part.diameters)]
    return Observation(
        np.concatenate([part.diameters for part in parts]),
        float(np.median(certainties)) if certainties else 0.0,
        sum(part.pixels for part in parts),
    )


def fit_scale(size: Size, input_size: int) -> float:
    """Return the scale at which the longer side of the image fills the input."""
    return input_size / max(size.height, size.width)


def requested_scale(request: ScaleRequest, manifest: PromptableManifest) -> ImageScale | None:
    """Return the scale that a request asks for; None if it says nothing."""
    if request.scale is not None:
        return ImageScale(request.scale, None, "requested")
    if request.object_size is not None:
        best = manifest.object_size or OBJECT_SHARE * manifest.preprocess.input_size
        return ImageScale(best / request.object_size, request.object_size, "object_size was requested")
    return None


def scale_of_slices(size: Size, manifest: PromptableManifest) -> float | None:
    """Return the scale at which the slices of a file are seen: None if they fill the model's input.

    Slices that would be enlarged too much for that get room beside them, as images of their size do.
    """
    is_tiny = fit_scale(size, manifest.preprocess.input_size) > MAX_SCALE
    return MAX_SCALE if is_tiny and manifest.object_size is not None else None


def window_side(scale: float, input_size: int) -> int:
    """Return the side of what fills the input at a scale, in pixels of the image."""
    return max(1, round(input_size / scale))


def leave_room(scale: float, input_size: int) -> Region:
    """Return the region, from the image's top left corner, that fills the input at a scale below the fitting one."""
    side = window_side(scale, input_size)
    return Region(0, 0, side, side)


def sample_windows(size: Size, side: int) -> list[Region]:
    """Return a window in the middle of the image and two towards its corners, of up to `side` pixels a side."""
    width, height = min(side, size.width), min(side, size.height)
    shares = (0.5,) if width == size.width and height == size.height else (0.5, 0.2, 0.8)
    return [
        Region(round(share * (size.width - width)), round(share * (size.height - height)), width, height)
        for share in shares
    ]


def lay_out(
    size: Size, input_size: int, scale: float | None, *, by_storage: bool | None = None
) -> TileGrid | Region | None:
    """Return what is encoded: tiles; a region larger than the image, which leaves room beside it; None for the image.

    scale: None where none is known: then only an image far above the input is tiled.
    by_storage: whether the image is kept in tiles, for those that follow it; None for those that do not.
    """
    if scale is None:
        is_large = max(size.height, size.width) > MAX_WHOLE_INPUTS * input_size
        if by_storage if by_storage is not None else is_large:
            return TileGrid(size, input_size, input_size // 4)
        return None
    ratio = scale / fit_scale(size, input_size)
    if abs(ratio - 1) <= SAME_SCALE:
        return None
    if ratio < 1:
        return leave_room(scale, input_size)
    side = window_side(scale, input_size)
    halo = max(1, round(side / 6))
    return TileGrid(size, max(1, side - 2 * halo), halo)


def check_room(region: Region, size: Size, input_size: int, max_pixels: int) -> None:
    """Check a region that leaves room beside an image of `size`. Raises BadInput where it is mostly room.

    max_pixels: of a region.
    """
    largest_side = min(max(MAX_ROOM * max(size.height, size.width), input_size), isqrt(max_pixels))
    if region.width > largest_side:
        share = max(size.height, size.width) / region.width
        raise BadInput(
            f"At this scale the image would fill {share:.1%} of the width of the model's input.",
            field="scale",
            remedy=f"Send a scale of {input_size / largest_side:.2g} or more, a smaller object_size, or neither.",
        )


def estimated_scale(observation: Observation, scale: float, floor: float, best: float) -> ImageScale:
    """Return the scale at which the objects found have the size that the model knows best.

    scale: at which they were found. floor: the smallest scale. best: that size, in pixels of the input.
    """
    found = observation.object_size
    if len(observation.diameters) < MIN_OBJECTS:
        return ImageScale(scale, found or None, "few objects were found at any scale")
    chosen = min(MAX_SCALE, max(floor, best / found))
    return ImageScale(
        chosen, found, f"objects of {ceil(found)} pixels were found that the whole image shows too small"
    )
