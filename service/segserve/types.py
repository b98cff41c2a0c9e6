"""What travels between the modules: frozen, framework-free, shapes stated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]
UInt16 = NDArray[np.uint16]
Int64 = NDArray[np.int64]

DEFAULT_TENANT = "default"

# Bytes. Settings in MB are decimal.
MB = 1_000_000


@dataclass(frozen=True)
class Size:
    """Height and width in pixels."""

    height: int
    width: int


@dataclass(frozen=True)
class Region:
    """A part of an image, in its pixels: the top left corner at (x, y), `width` and `height` from there."""

    x: int
    y: int
    width: int
    height: int

    @property
    def size(self) -> Size:
        return Size(self.height, self.width)

    def lies_in(self, size: Size) -> bool:
        """Whether it is not empty and all of it is on an image of this size."""
        across = 0 <= self.x < self.x + self.width <= size.width
        return across and 0 <= self.y < self.y + self.height <= size.height


class Priority(StrEnum):
    """Who waits for an embedding: somebody who has clicked, or a batch that has time."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class Device(StrEnum):
    """Where graphs run."""

    CPU = "cpu"
    CUDA = "cuda"


class Normalise(StrEnum):
    """How an image's values become 8-bit."""

    NONE = "none"  # 8-bit values stay; deeper ones are stretched from their minimum to their maximum
    MINMAX = "minmax"  # each channel from its minimum to its maximum
    PERCENTILE = "percentile"  # each channel from its 1st to its 99th percentile


@dataclass(frozen=True)
class ReadOptions:
    """How image bytes are read. They are part of the image's identity.

    page: of a multi-page file, from 0. channels: which to take, in order; None means the file's own.
    """

    page: int = 0
    channels: tuple[int, ...] | None = None
    normalise: Normalise = Normalise.NONE


@dataclass(frozen=True)
class Preprocess:
    """How a model wants its input, a square of `input_size` pixels.

    mean, std: of R, G, B on the scale 0..255. resize: "pad" keeps the shape and fills with zeros below or to
    the right, as SAM does; "stretch" fills the square, as SAM 2 does. stretch_percentiles: (low, high), 0 to
    100; these percentiles of the resized image, all channels together, become 0 and 255 before mean and std
    apply.
    """

    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["pad", "stretch"]
    stretch_percentiles: tuple[float, float] | None = None


@dataclass(frozen=True)
class ImageLimits:
    """pixels: of an image that is read at once. tiled_pixels: of one that is read in bands and kept in tiles.
    tile_from: pixels of its longer side beyond which an image is."""

    pixels: int
    tiled_pixels: int
    tile_from: int


@dataclass(frozen=True)
class FileLimits:
    """mb: of what an archive holds, unpacked. pixels: of a frame. voxels: of a volume."""

    mb: int
    pixels: int
    voxels: int


@dataclass(frozen=True)
class TilePyramid:
    """How a large image is kept in tiles, see `images.tile_pyramid`. folder: of this set of tiles. size: as stored,
    before `orientation` turns it."""

    folder: str
    size: Size
    channels: int
    levels: int
    orientation: int


@dataclass(frozen=True)
class ImageRecord:
    """What is kept about a stored image. Its pixels are read again when needed: from the bytes, or from the
    tiles if it has some."""

    image_id: str
    size: Size
    options: ReadOptions
    stored_bytes: int
    created_at: float  # seconds since the epoch
    tiles: TilePyramid | None = None


class FileKind(StrEnum):
    """What an uploaded file holds."""

    VIDEO = "video"
    FRAMES = "frames"  # a zip of pictures of one size, or a TIFF
    PICTURES = "pictures"  # a zip of pictures of several sizes
    VOLUME = "volume"


@dataclass(frozen=True)
class FileRecord:
    """What is kept about a stored file. count: frames or slices. spacing: of a volume, millimetres from slice to slice,
    row to row and column to column. fps: of a video that says so."""

    file_id: str
    kind: FileKind
    format: str
    count: int
    size: Size
    stored_bytes: int
    created_at: float  # seconds since the epoch
    spacing: tuple[float, float, float] | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Box:
    """Pixels of the original image; x1 and y1 are the far edges."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Prompt:
    """One object asked for. points [N, 2] float32 (x, y) in original pixels, labels [N] 1 or 0.

    At most one prior: mask [H, W] bool at original size, or logits [h, w] float32 at low-res size.
    """

    points: Float32 = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    box: Box | None = None
    mask: Bool | None = None
    logits: Float32 | None = None
    mask_id: str | None = None


class Select(StrEnum):
    """Which of the candidates are returned."""

    BEST = "best"  # the highest score
    ALL = "all"
    FIRST = "first"  # the first of the three multimask outputs, never the single-mask token


@dataclass(frozen=True)
class Crop:
    """A binary mask of a whole image, kept as the part that can hold ones.

    pixels [h, w] bool, its top left corner at (x, y) of an image of `size`; everything outside is 0.
    """

    pixels: Bool
    x: int
    y: int
    size: Size


@dataclass(frozen=True)
class Candidate:
    """One mask of an answer. logits [h, w] float32, low-res."""

    crop: Crop
    logits: Float32
    score: float


@dataclass(frozen=True)
class SegmentedObject:
    """One object that was found without a prompt. score: 0 to 1, None where the method gives none. category:
    its class's name. box: as the model drew it, where it draws boxes; the mask need not fill it."""

    crop: Crop
    score: float | None = None
    category: str | None = None
    box: Box | None = None


@dataclass(frozen=True)
class ImageObjects:
    """What was found on a whole image. Objects may overlap; the position of one, from 1, is its id in label
    maps."""

    image_id: str
    model: str
    size: Size
    objects: list[SegmentedObject]


# An encoder's output by name, in the host's memory, each array float16 or float32; "embedding" is always [C, g, g].
Embedding = Mapping[str, NDArray[Any]]


class Direction(StrEnum):
    """Along the frames or slices, from those with prompts. What lies between them is always segmented."""

    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "both"
