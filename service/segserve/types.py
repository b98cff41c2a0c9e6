"""Data types that the packages exchange: frozen dataclasses without any framework, with shapes, dtypes and units."""

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
    """A rectangle of an image, in its pixels. (x, y): the top left corner.

    A region that is encoded may hold all of the image and extend beyond its right and bottom edge: that part shows
    nothing.
    """

    x: int
    y: int
    width: int
    height: int

    @property
    def size(self) -> Size:
        return Size(self.height, self.width)

    def clip(self, size: Size) -> "Region":
        """Return all of an image of this size if the region shows all of it, otherwise the region itself."""
        if (self.x, self.y) == (0, 0) and self.width >= size.width and self.height >= size.height:
            return Region(0, 0, size.width, size.height)
        return self

    def lies_in(self, size: Size) -> bool:
        """Return whether the region is not empty and all of it is on an image of this size."""
        fits_across = 0 <= self.x < self.x + self.width <= size.width
        return fits_across and 0 <= self.y < self.y + self.height <= size.height


class Priority(StrEnum):
    """Who waits for the result: a user who has clicked (INTERACTIVE), or a job that has time (BATCH)."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class UsageKind(StrEnum):
    """Kinds of use that are counted for each tenant, and by day."""

    ENCODED_IMAGES = (
        "encoded_images"  # images, frames, slices, tiles and windows that went through an encoder
    )
    ENCODE_SECONDS = "encode_seconds"
    CLICKS = "clicks"  # prompts answered, those of jobs too
    AUTOMATIC_IMAGES = "automatic_images"  # by AIS or AMG
    SIMILAR_IMAGES = "similar_images"
    SEMANTIC_IMAGES = "semantic_images"
    INSTANCES_IMAGES = "instances_images"
    JOB_SECONDS = "job_seconds"  # of workers


class AccessRole(StrEnum):
    """Roles of identities, which say what they may do.

    ANNOTATOR: upload, click, label, run jobs on what it uploaded. BATCH: the same, behind annotators. OPERATOR:
    everything, for every tenant. METRICS: read metrics.
    """

    ANNOTATOR = "annotator"
    BATCH = "batch"
    OPERATOR = "operator"
    METRICS = "metrics"


class Device(StrEnum):
    """Where ONNX graphs run."""

    CPU = "cpu"
    CUDA = "cuda"


class Runtime(StrEnum):
    """The runtime of ONNX graphs on a CPU."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"


class Precision(StrEnum):
    """The number format of a graph's products on a CPU. Their sums are in fp32."""

    FP32 = "fp32"
    BF16 = "bf16"


class FrontendName(StrEnum):
    """The frontends: protocols of other tools that the service speaks, see `wire/frontends`."""

    OPEN_INFERENCE = "open-inference"  # KServe, Triton and their clients
    X_ANYLABELING = "x-anylabeling"
    QUPATH = "qupath"  # qupath-extension-sam
    MONAI = "monai"  # MONAI Label: 3D Slicer, OHIF
    LABEL_STUDIO = "label-studio"
    CVAT = "cvat"  # as a Nuclio dashboard
    ISAT = "isat"  # ISAT-SAM
    NNINTERACTIVE = "nninteractive"


class Normalise(StrEnum):
    """How an image's values become 8-bit: what is stretched to 0..255."""

    AUTO = "auto"  # nothing for 8-bit images; for deeper ones, all values, the darkest and brightest cut off
    NONE = "none"  # nothing for 8-bit images; for deeper ones, all values from their minimum to their maximum
    MINMAX = "minmax"  # each channel, from its minimum to its maximum
    PERCENTILE = "percentile"  # each channel, from its 1st to its 99th percentile


class Stain(StrEnum):
    """A stain of a section under a light microscope, whose share of the colour is read; see `images/stains.py`."""

    HAEMATOXYLIN = "haematoxylin"
    EOSIN = "eosin"
    DAB = "dab"


@dataclass(frozen=True)
class ReadOptions:
    """How the bytes of an image are read. The options are part of the image_id.

    page: of a multi-page file, from 0.
    channels: the channels to read, in this order; None reads those of the file.
    stain: read the amount of this stain as grey, dark where there is much; None reads the colours.
    invert: make dark bright and bright dark, after everything else.
    """

    page: int = 0
    channels: tuple[int, ...] | None = None
    normalise: Normalise = Normalise.AUTO
    stain: Stain | None = None
    invert: bool = False


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a model's input, a square of `input_size` pixels.

    mean, std: of R, G, B on the scale 0..255.
    resize: "pad" keeps the shape and fills with zeros below or to the right, as SAM does; "stretch" fills the square,
    as SAM 2 does.
    stretch_percentiles: (low, high), 0 to 100. These percentiles of the resized image, all channels together, become
    0 and 255 before mean and std apply.
    """

    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["pad", "stretch"]
    stretch_percentiles: tuple[float, float] | None = None


@dataclass(frozen=True)
class ImageLimits:
    """Limits for uploaded images.

    max_pixels: of an image that is read at once.
    max_tiled_pixels: of an image that is read in bands and kept in tiles.
    tile_above_px: an image is kept in tiles if its longer side is larger.
    """

    max_pixels: int
    max_tiled_pixels: int
    tile_above_px: int


@dataclass(frozen=True)
class FileLimits:
    """Limits for uploaded files.

    max_mb: of an archive's entries together, unpacked.
    max_frame_pixels: of one frame or picture.
    max_voxels: of a volume.
    """

    max_mb: int
    max_frame_pixels: int
    max_voxels: int


@dataclass(frozen=True)
class TilePyramid:
    """How a large image is kept in tiles; see `images/tile_pyramid.py`.

    folder: of this set of tiles.
    size: of the image as it is stored, before `orientation` turns it.
    orientation: the value of the EXIF tag, 1 to 8.
    """

    folder: str
    size: Size
    channels: int
    levels: int
    orientation: int


@dataclass(frozen=True)
class ImageRecord:
    """What is known about a stored image.

    created_at: seconds since the epoch. tiles: None for an image that is read from its bytes.
    page, pages: which page of the uploaded file it is, from 0, and how many the file has. What is stored may be that
    page alone, to which `options` apply.
    """

    image_id: str
    size: Size
    options: ReadOptions
    stored_bytes: int
    created_at: float
    tiles: TilePyramid | None = None
    page: int = 0
    pages: int = 1


class FileKind(StrEnum):
    """What an uploaded file holds."""

    VIDEO = "video"
    FRAMES = "frames"  # a zip of pictures of one size, or a TIFF
    PICTURES = "pictures"  # a zip of pictures of several sizes
    VOLUME = "volume"


@dataclass(frozen=True)
class FileOptions:
    """What is taken of a file that holds several things. The options are part of the file_id.

    series: name of a `FileContent`, or its number from 0; None: the largest.
    time: point in time, from 0; None: the first.
    """

    series: str | None = None
    time: int | None = None


@dataclass(frozen=True)
class FileContent:
    """One of the things that a file holds: a series, a clip, a scene.

    series: its name, which no other one in the file has.
    description: the file's own words about it; may be empty.
    times: points in time.
    count: frames or slices at one point in time.
    taken_time: the point in time that the file's record is about; None where the record is about another content.
    notes: what is unusual about it, such as the tilt of a gantry; a sentence each.
    """

    series: str
    description: str
    times: int
    count: int
    size: Size
    taken_time: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeftOutFile:
    """A file in an archive that is not part of any content. reason: a sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class LeftOut:
    """The files in an archive that are not part of any content. count: of all; `files` lists the first of them."""

    count: int = 0
    files: tuple[LeftOutFile, ...] = ()


@dataclass(frozen=True)
class FrameIndex:
    """How the frames of a file are found, as probing it has told.

    decoded_count: number of frames of a video whose packets do not tell them: decoding it from its start does.
    left_out_entries: (first, last) of the entries of a zip that are no pictures, by number in the order of names.
    None where that is not known.
    """

    decoded_count: int | None = None
    left_out_entries: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class FileRecord:
    """What is known about a stored file.

    count: frames, slices or pictures.
    created_at: seconds since the epoch.
    spacing: millimetres from slice to slice, row to row and column to column, of a volume, or of a stack that says it.
    fps: of a video whose file gives it.
    options: by which the file was read, and is to be opened.
    contents: all that the file holds, in the order in which `FileOptions.series` numbers it; empty where it can hold
    one thing only, and there is nothing to note about it.
    frame_index: by which a job finds its frames.
    """

    file_id: str
    kind: FileKind
    format: str
    count: int
    size: Size
    stored_bytes: int
    created_at: float
    spacing: tuple[float, float, float] | None = None
    fps: float | None = None
    options: FileOptions = FileOptions()
    contents: tuple[FileContent, ...] = ()
    left_out: LeftOut = LeftOut()
    frame_index: FrameIndex = FrameIndex()


@dataclass(frozen=True)
class Box:
    """A box in pixels of the original image. (x0, y0): the top left corner; (x1, y1): the bottom right one."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Prompt:
    """What a user says about one object.

    points: [N, 2] float32, (x, y) in pixels of the original image.
    labels: [N] int64, 1 for a point on the object (positive), 0 for one outside of it (negative).
    mask, logits, mask_id: an earlier mask to refine, at most one of them. mask: [H, W] at the original size.
    logits: [h, w] float32 at low-res size.
    """

    points: Float32 = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    box: Box | None = None
    mask: Bool | None = None
    logits: Float32 | None = None
    mask_id: str | None = None


class Select(StrEnum):
    """Which of the decoder's candidates are returned."""

    BEST = "best"  # by score, stability and the prompt: `DecodedMask.value`
    ALL = "all"
    FIRST = "first"  # the first of the three multimask outputs, never the single mask


@dataclass(frozen=True)
class Crop:
    """A binary mask of a whole image, kept as the part that can hold ones. Everything outside of it is 0.

    pixels: [h, w] bool. (x, y): its top left corner on the image. size: of the image.
    """

    pixels: Bool
    x: int
    y: int
    size: Size


@dataclass(frozen=True)
class Candidate:
    """One mask that the decoder offers for a prompt.

    logits: [h, w] float32, low-res. score: the IoU that the model predicts for the mask.
    removed_parts, filled_holes: what cleaning changed, see `masks/clean.py`.
    """

    crop: Crop
    logits: Float32
    score: float
    removed_parts: int = 0
    filled_holes: int = 0


@dataclass(frozen=True)
class SegmentedObject:
    """One object that was segmented without a prompt.

    score: 0 to 1; None if the method gives none.
    category: the name of its class; None if the method has no classes.
    box: as the model predicted it, if it predicts boxes. The mask need not fill it.
    likeness: to the examples of a search, see `similar/likeness.py`; None if it was no search.
    is_example: it is one of the examples.
    """

    crop: Crop
    score: float | None = None
    category: str | None = None
    box: Box | None = None
    likeness: float | None = None
    is_example: bool = False


@dataclass(frozen=True)
class ImageScale:
    """The scale at which a model saw an image.

    scale: pixels of the model's input for each pixel of the image.
    object_size: diameter of typical objects in pixels of the image; None where it is not known.
    reason: why it was chosen, a few words.
    """

    scale: float
    object_size: float | None
    reason: str


@dataclass(frozen=True)
class ImageObjects:
    """All objects of an image. They may overlap. The position of an object, from 1, is its id in label maps.

    join_crumbs: label maps have no crumbs; see `label_map.join_crumbs`.
    scale: at which the model saw the image, where it was chosen.
    certainty: 0 to 1, how far the model's foreground is from undecided where objects are, if it has one and they are.
    hints: what may be wrong with them, and what to do about it; a sentence or two each.
    """

    image_id: str
    model: str
    size: Size
    objects: list[SegmentedObject]
    join_crumbs: bool = False
    scale: ImageScale | None = None
    certainty: float | None = None
    hints: tuple[str, ...] = ()


# An encoder's outputs by name, in the host's memory, each float16 or float32. "embedding" is always [C, g, g].
Embedding = Mapping[str, NDArray[Any]]


class Direction(StrEnum):
    """Which way objects are followed from the frames or slices with prompts. Those in between are always segmented."""

    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "both"


class LossReason(StrEnum):
    """Why an object is not on a frame where it was looked for."""

    EMPTY = "empty"  # the model's mask is empty
    IOU = "iou"  # the mask differs too much from the one before
    SCORE = "score"  # the model predicts a low quality of the mask
    CONTRAST = "contrast"  # too little of the contrast to its surroundings is left
    LIKENESS = "likeness"  # its descriptor differs too much from that on the frame with its prompt
    STEP_LIKENESS = "step_likeness"  # its descriptor differs too much from those on the frames before
    OVERLAP = "overlap"  # another object is there
    LEFT = "left"  # it left the frame
    ABSENT = "absent"  # SAM 2 predicts that it is not on the frame


@dataclass(frozen=True)
class ObjectEnd:
    """The end of an object that was followed.

    frame: the first frame or slice, in the order of the work, where it was not found any more.
    last_frame: the last one where it was found; None if it was found nowhere.
    reason: a `LossReason`, of `frame`.
    """

    object_id: int
    frame: int
    last_frame: int | None
    reason: LossReason
