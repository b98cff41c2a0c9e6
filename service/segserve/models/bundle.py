"""A model bundle: a folder with `model.yaml` and the files it names.

    model.yaml          name, kind, what the kind needs to know, licence, source, a digest per file

Promptable (sam, sam2):
    encoder.onnx        image [1, 3, S, S] -> embedding (SAM 2: and two high-resolution features)
    encoder.fp16.onnx   the same computed in fp16, for GPUs; where that agrees
    prepare.onnx        embedding and prior mask -> prepared embedding, once per image
    fast_decoder.onnx   prompt and prepared embedding -> masks; few points
    fast_decoder_many.onnx                               the same for many points
    decoder.onnx        the stock interface, for browsers and other runtimes
    ais.onnx            embedding -> foreground, centre and boundary distances; where the model has such a decoder
    weights.safetensors where what needs torch can be done with the model: training it further, video

Semantic, instances:
    model.onnx          see `SemanticManifest`, `InstancesManifest`
    masks.onnx          instances alone: the masks of the boxes that were chosen

The digest of the manifest's bytes stands for the whole bundle: it covers every file's digest, and is part
of every cache key.
"""

import hashlib
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from segserve.errors import BadInput, BrokenModel, WrongModel
from segserve.models.semantic_manifest import Postprocess, SemanticInput
from segserve.models.strict_schema import Strict
from segserve.types import Preprocess

MANIFEST = "model.yaml"
HALF_ENCODER = "encoder.fp16.onnx"
WEIGHTS = "weights.safetensors"
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
READ_CHUNK = 1 << 20

ClassName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
TileEdge = Annotated[int, Field(ge=16, le=4096)]


class Kind(StrEnum):
    """Families of models, by what they answer: the first two masks for prompts."""

    SAM = "sam"
    SAM2 = "sam2"
    SEMANTIC = "semantic"  # a class for every pixel
    INSTANCES = "instances"  # objects with class, score, box and mask


class Runtime(StrEnum):
    """How a bundle's graphs are run; see `models.onnx_pair_model` for all but the first."""

    FAST = "fast"  # prepare.onnx and the two fast decoders, as `models.export` writes them
    STOCK = "stock"  # decoder.onnx has the interface of segment-anything's export, or SAM 2's like it
    EFFICIENT_SAM = "efficient_sam"  # EfficientSAM's published export


class FileEntry(Strict):
    """`digest` is hexadecimal, `algorithm` names it: sha256."""

    digest: str
    algorithm: Literal["sha256"] = "sha256"
    bytes: int = Field(ge=1)


class PreprocessEntry(Strict):
    """See `segserve.types.Preprocess`; mean and std on the 0..255 scale."""

    input_size: int = Field(ge=64, le=4096)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["pad", "stretch"]
    stretch_percentiles: tuple[float, float] | None = None

    def build(self) -> Preprocess:
        return Preprocess(**self.model_dump())


class Dims(Strict):
    """embedding: channels, height, width. low: edge of the low-res logits. high_res: SAM 2's two features.

    masks: the mask tokens that the decoder can answer with; 0 is the single mask, 1 to 3 the candidates.
    """

    embedding: tuple[int, int, int]
    low: int
    high_res: tuple[tuple[int, int, int], ...] = ()
    masks: tuple[int, ...] = (0, 1, 2, 3)


Threshold = Annotated[float, Field(ge=0, le=1)]
Sigma = Annotated[float, Field(ge=0, le=100, description="of a Gaussian, in pixels of the image; 0: none")]


class AisEntry(Strict):
    """Parameters of automatic instance segmentation, see `segserve.automatic.parameters.AisParams`; those left out
    are its defaults."""

    center_distance_threshold: Threshold | None = Field(None, description="seeds lie below it")
    boundary_distance_threshold: Threshold | None = Field(None, description="seeds lie below it")
    foreground_threshold: Threshold | None = Field(None, description="objects lie above it")
    foreground_smoothing: Sigma | None = None
    distance_smoothing: Sigma | None = None
    min_size: int | None = Field(None, ge=0, description="pixels; smaller objects are left out")

    def given(self) -> dict[str, Any]:
        """What is not left out, by name."""
        return self.model_dump(exclude_none=True)


class AmgEntry(Strict):
    """Parameters of automatic mask generation, see `segserve.automatic.parameters.AmgParams`; those left out are its
    defaults."""

    points_per_side: int | None = Field(None, ge=1, le=128, description="of the grid of clicks")
    pred_iou_thresh: Threshold | None = Field(None, description="of a mask's score")
    stability_score_thresh: Threshold | None = None
    stability_score_offset: float | None = Field(
        None,
        ge=0,
        le=32,
        description="how far a mask's threshold is moved to see whether it is stable, in logits",
    )
    box_nms_thresh: Threshold | None = Field(
        None, description="IoU of boxes above which a mask is a duplicate"
    )
    crop_n_layers: int | None = Field(None, ge=0, le=3, description="layer i adds 4^i crops, each encoded")
    crop_nms_thresh: Threshold | None = Field(None, description="the same between crops")
    crop_overlap_ratio: float | None = Field(None, ge=0, le=0.9)
    crop_n_points_downscale_factor: int | None = Field(None, ge=1, le=8)
    min_mask_region_area: int | None = Field(
        None, ge=0, le=1_000_000, description="pixels; smaller holes and islands go"
    )

    def given(self) -> dict[str, Any]:
        """What is not left out, by name."""
        return self.model_dump(exclude_none=True)


class Manifest(Strict):
    """What every `model.yaml` holds. `answers`: what such a model does, for messages."""

    answers: ClassVar[str]

    format: Literal[1] = 1
    name: str
    kind: Kind
    architecture: str
    description: str = ""
    licence: str = ""
    source: str = ""
    files: dict[str, FileEntry]


class PromptableManifest(Manifest):
    """SAM and its kin: an encoder, and decoders for prompts. ais, amg: the parameters that were found best."""

    answers: ClassVar[str] = "prompts"

    kind: Literal[Kind.SAM, Kind.SAM2]
    runtime: Runtime = Runtime.FAST
    preprocess: PreprocessEntry
    dims: Dims
    mask_threshold: float = 0.0
    ais: AisEntry | None = None
    amg: AmgEntry | None = None


class Activation(StrEnum):
    """What makes probabilities of the graph's output."""

    SIGMOID = "sigmoid"  # of each channel by itself: classes may overlap
    SOFTMAX = "softmax"  # over the channels: every pixel has one class
    NONE = "none"  # the graph answers probabilities


class SemanticManifest(Manifest):
    """A class for every pixel: U-Net and its kin. `model.onnx` has one input, the prepared image [N, C, H, W]
    float32, and one output [N, K, H, W]; N is free or 1, and H and W are free unless `fixed`.

    classes: names of the K channels, in order. background: the channel that stands for "none of them", if there
    is one. In class maps 0 is background and n the n-th class that is not background.
    thresholds: per channel; the probability a class needs to be taken. Empty: 0.5 for sigmoid, otherwise 0. Of
    the classes that reach theirs, background always among them, the most probable is taken.
    multiple: H and W must be multiples of it. tile: height and width, what a sliding window sees at once if the
    request does not say. fixed: the graph takes nothing but that tile. overlap: of neighbouring tiles, as a part
    of their edge.
    """

    answers: ClassVar[str] = "classes of pixels"

    kind: Literal[Kind.SEMANTIC] = Kind.SEMANTIC
    classes: tuple[ClassName, ...] = Field(min_length=1, max_length=255)
    background: int | None = Field(None, ge=0)
    activation: Activation = Activation.SIGMOID
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    input: SemanticInput = SemanticInput()
    multiple: int = Field(32, ge=1, le=512)
    tile: tuple[TileEdge, TileEdge] = (512, 512)
    fixed: bool = False
    overlap: float = Field(0.25, ge=0, le=0.75)
    postprocess: Postprocess = Postprocess()

    @model_validator(mode="after")
    def consistent(self) -> "SemanticManifest":
        count = len(self.classes)
        if len(set(self.classes)) != count:
            raise ValueError("classes must have different names")
        if self.thresholds and len(self.thresholds) != count:
            raise ValueError(f"thresholds must be as many as classes, {count}")
        if self.background is not None and self.background >= count:
            raise ValueError(f"background must be one of the channels 0 to {count - 1}")
        if not [name for index, name in enumerate(self.classes) if index != self.background]:
            raise ValueError("there must be a class that is not background")
        if self.activation is Activation.SOFTMAX and count == 1:
            raise ValueError("softmax over one channel says nothing: use sigmoid")
        if any(edge % self.multiple for edge in self.tile):
            raise ValueError(f"the tile's edges must be multiples of {self.multiple}")
        return self


class ResizeEntry(Strict):
    """How Mask R-CNN's input is made, as by torchvision's GeneralizedRCNNTransform: the shorter side becomes
    `min_size` pixels, or the longer one `max_size` if that is smaller. mean and std on the 0..255 scale."""

    min_size: int = Field(ge=32, le=4096)
    max_size: int = Field(ge=32, le=8192)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class InstancesManifest(Manifest):
    """Mask R-CNN, cut where requests have a say; see `models.export.mask_rcnn` for both graphs.

    classes: names by index; 0 is the background. The thresholds are those of requests that name none.
    """

    answers: ClassVar[str] = "objects of known classes"

    kind: Literal[Kind.INSTANCES]
    classes: tuple[str, ...] = Field(min_length=2)
    resize: ResizeEntry
    score_threshold: float = Field(0.5, ge=0, le=1)
    nms_threshold: float = Field(0.5, ge=0, le=1)
    mask_threshold: float = Field(0.5, gt=0, lt=1)
    max_objects: int = Field(100, ge=1)


AnyManifest: TypeAdapter[PromptableManifest | SemanticManifest | InstancesManifest] = TypeAdapter(
    Annotated[PromptableManifest | SemanticManifest | InstancesManifest, Field(discriminator="kind")]
)
M = TypeVar("M", bound=Manifest)


def check_name(name: str) -> str:
    """A model's name is a folder's name: nothing that could leave the models' folder gets through."""
    if not NAME_PATTERN.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot name a model.",
            field="name",
            remedy="Use up to 63 small letters, digits, dots, dashes and underscores.",
        )
    return name


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(READ_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class Bundle:
    """A bundle on disk, its manifest read. `digest`: sha256 of the manifest's bytes, hexadecimal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            text = (folder / MANIFEST).read_bytes()
            self.manifest: Manifest = AnyManifest.validate_python(yaml.safe_load(text))
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise BrokenModel(
                f"The manifest of bundle {folder.name!r} cannot be read: {error}.",
                remedy="Import or pull the model again.",
            ) from error
        self.digest = hashlib.sha256(text).hexdigest()

    @property
    def name(self) -> str:
        return self.manifest.name

    def expect(self, kind: type[M]) -> M:
        """The manifest as one of `kind`. Raises WrongModel."""
        if not isinstance(self.manifest, kind):
            raise WrongModel(self.name, kind.answers, self.manifest.answers)
        return self.manifest

    def has(self, file: str) -> bool:
        return file in self.manifest.files

    def path(self, file: str) -> Path:
        """Where a file of the manifest lies. Raises BrokenModel if the manifest does not name it."""
        if file not in self.manifest.files or Path(file).name != file:
            raise BrokenModel(f"Bundle {self.name!r} has no file {file!r}.", remedy="Import the model again.")
        return self.folder / file

    def verify(self) -> None:
        """Compare every file with its digest. Raises BrokenModel naming the first that differs."""
        for file, entry in self.manifest.files.items():
            path = self.path(file)
            if not path.is_file() or sha256_of(path) != entry.digest:
                raise BrokenModel(
                    f"File {file!r} of bundle {self.name!r} does not match its {entry.algorithm} digest.",
                    remedy="Import or pull the model again.",
                )


def write_manifest(folder: Path, manifest: Manifest) -> Bundle:
    """Write `model.yaml` for the files that lie in `folder`, digests computed here."""
    files = {
        path.name: FileEntry(digest=sha256_of(path), bytes=path.stat().st_size)
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST and path.suffix in (".onnx", ".data", ".safetensors")
    }
    data = manifest.model_copy(update={"files": files}).model_dump(mode="json")
    (folder / MANIFEST).write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return Bundle(folder)
