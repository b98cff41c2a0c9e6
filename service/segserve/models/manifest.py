"""The schemas of `model.yaml`, a bundle's manifest: one class for each kind of model."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, model_validator

from segserve.models.semantic_manifest import Postprocess, SemanticInput
from segserve.models.strict_schema import StrictSchema
from segserve.types import Preprocess

ClassName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
TileEdge = Annotated[int, Field(ge=16, le=4096)]


class ModelKind(StrEnum):
    """The kinds of models, by what they return."""

    SAM = "sam"  # masks for prompts
    SAM2 = "sam2"  # masks for prompts, by SAM 2
    SEMANTIC = "semantic"  # a class for every pixel
    INSTANCES = "instances"  # objects with class, score, box and mask


class Subject(StrEnum):
    """Kinds of pictures: the words by which a model says for which it is made."""

    NUCLEI = "nuclei"  # nuclei in light microscopy, fluorescent or stained
    CELLS = "cells"  # cells in light microscopy
    TISSUE = "tissue"  # stained sections: histopathology
    ORGANELLES = "organelles"  # parts of cells in electron microscopy
    PHOTOGRAPHS = "photographs"  # what cameras see: people, things, places
    MEDICAL = "medical"  # CT, MRI, ultrasound, endoscopy and the like
    CHEST_XRAY = "chest_xray"  # radiographs of the chest


class PromptKind(StrEnum):
    """The prompts that a promptable model is trained for."""

    POINTS = "points"
    BOXES = "boxes"


class BundleRuntime(StrEnum):
    """How a bundle's graphs are run. `models.onnx_pair_model` runs all but the first."""

    FAST = "fast"  # prepare.onnx and the two fast decoders, written by `models.export`
    STOCK = "stock"  # decoder.onnx with the interface of segment-anything's export, or SAM 2's like it
    EFFICIENT_SAM = "efficient_sam"  # EfficientSAM's published export


class FileEntry(StrictSchema):
    """One file of the bundle. digest: hexadecimal, of the algorithm `algorithm`. bytes: the file's size."""

    digest: str
    algorithm: Literal["sha256"] = "sha256"
    bytes: int = Field(ge=1)


class PreprocessEntry(StrictSchema):
    """How images are prepared; see `segserve.types.Preprocess`. mean, std: on the 0..255 scale."""

    input_size: int = Field(ge=64, le=4096)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["pad", "stretch"]
    stretch_percentiles: tuple[float, float] | None = None

    def to_preprocess(self) -> Preprocess:
        return Preprocess(**self.model_dump())


class Dims(StrictSchema):
    """The shapes of a promptable model's arrays.

    embedding: channels, height, width.
    low: edge of the low-res logits.
    high_res: channels, height, width of the two fine features of SAM 2 and the starter.
    masks: the mask tokens that the decoder returns: 0 is the single mask, 1 to 3 are the candidates.
    """

    embedding: tuple[int, int, int]
    low: int
    high_res: tuple[tuple[int, int, int], ...] = ()
    masks: tuple[int, ...] = (0, 1, 2, 3)


Threshold = Annotated[float, Field(ge=0, le=1)]
Sigma = Annotated[float, Field(ge=0, le=100)]


class NmsKeeps(StrEnum):
    """Which of two masks of AMG that are duplicates stays."""

    BEST = "best"
    SMALLEST = "smallest"
    LARGEST = "largest"
    ALL = "all"


class AisEntry(StrictSchema):
    """Parameters of automatic instance segmentation. A field that is left out has the default of
    `segserve.automatic.parameters.AisParams`."""

    center_distance_threshold: Threshold | None = Field(
        None, description="seeds are where the distance to the centre is below this"
    )
    boundary_distance_threshold: Threshold | None = Field(
        None, description="seeds are where the inverted distance to the boundary is below this"
    )
    foreground_threshold: Threshold | None = Field(
        None, description="objects are where the foreground is above this"
    )
    foreground_smoothing: Sigma | None = Field(
        None, description="sigma of a Gaussian over the foreground, in pixels of the image; 0: none"
    )
    distance_smoothing: Sigma | None = Field(
        None, description="sigma of a Gaussian over the distances, in pixels of the image; 0: none"
    )
    min_size: int | None = Field(None, ge=0, description="objects of fewer pixels are left out")

    def explicit_params(self) -> dict[str, Any]:
        """Return the fields that are not left out, by name."""
        return self.model_dump(exclude_none=True)


class AmgEntry(StrictSchema):
    """Parameters of automatic mask generation. A field that is left out has the default of
    `segserve.automatic.parameters.AmgParams`."""

    points_per_side: int | None = Field(None, ge=1, le=128, description="clicks of the grid along each side")
    pred_iou_thresh: Threshold | None = Field(
        None, description="masks with a lower predicted IoU are left out"
    )
    stability_score_thresh: Threshold | None = Field(
        None,
        description="masks with a lower stability are left out: the IoU of the masks at a raised and at a lowered "
        "threshold",
    )
    stability_score_offset: float | None = Field(
        None,
        ge=0,
        le=32,
        description="how far the threshold is raised and lowered for the stability, in logits",
    )
    box_nms_thresh: Threshold | None = Field(
        None, description="NMS: of two masks whose boxes have a higher IoU, one stays: see nms_keeps"
    )
    crop_n_layers: int | None = Field(
        None, ge=0, le=3, description="layer i adds 4^i crops of the image, and each crop is encoded"
    )
    crop_nms_thresh: Threshold | None = Field(
        None, description="the same between crops, where masks of the smaller crop stay"
    )
    crop_overlap_ratio: float | None = Field(
        None,
        ge=0,
        le=0.9,
        description="overlap of the crops of the first layer, as a part of the image's shorter side",
    )
    crop_n_points_downscale_factor: int | None = Field(
        None,
        ge=1,
        le=8,
        description="the grid of layer i has points_per_side / factor^i points along each side",
    )
    min_mask_region_area: int | None = Field(
        None, ge=0, le=1_000_000, description="holes and islands of fewer pixels are removed from masks"
    )
    multimask_output: bool | None = Field(
        None, description="take the three candidates of each click; false: its single mask"
    )
    nms_keeps: NmsKeeps | None = Field(
        None,
        description="which of two masks that box_nms_thresh calls duplicates stays: best, by predicted IoU; smallest;"
        " largest; or all: no NMS within a crop",
    )

    def explicit_params(self) -> dict[str, Any]:
        """Return the fields that are not left out, by name."""
        return self.model_dump(exclude_none=True)


class Manifest(StrictSchema):
    """The fields of every `model.yaml`. TASK: what such a model returns, for error messages.

    suits: what the model is for; empty where nobody has said it. description: the same for readers.
    """

    TASK: ClassVar[str]

    format: Literal[1] = 1
    name: str
    kind: ModelKind
    architecture: str
    description: str = ""
    suits: tuple[Subject, ...] = ()
    licence: str = ""
    source: str = ""
    files: dict[str, FileEntry]


class PromptableManifest(Manifest):
    """A model of the SAM family: an encoder, and decoders for prompts.

    prompts: what it is trained for; it answers others too, and badly.
    ais, amg: the parameters that scored best.
    object_size: diameter, in pixels of the input, of the objects that the model knows best. With it the scale of whole
    images is estimated (`segserve.automatic.image_scale`).
    """

    TASK: ClassVar[str] = "prompts"

    kind: Literal[ModelKind.SAM, ModelKind.SAM2]
    runtime: BundleRuntime = BundleRuntime.FAST
    preprocess: PreprocessEntry
    dims: Dims
    mask_threshold: float = 0.0
    prompts: tuple[PromptKind, ...] = (PromptKind.POINTS, PromptKind.BOXES)
    ais: AisEntry | None = None
    amg: AmgEntry | None = None
    object_size: float | None = Field(None, gt=0)


class Activation(StrEnum):
    """The function that turns the graph's output into probabilities."""

    SIGMOID = "sigmoid"  # of each channel by itself: classes may overlap
    SOFTMAX = "softmax"  # over the channels: every pixel has one class
    NONE = "none"  # the graph returns probabilities


class SemanticManifest(Manifest):
    """A model that returns a class for every pixel, such as a U-Net.

    `model.onnx` has one input, the prepared image [N, C, H, W] float32, and one output [N, K, H, W]. N is free or
    1; H and W are free unless `fixed`.

    classes: names of the K channels, in order.
    background: the channel that stands for "none of them", if there is one. In class maps 0 is the background and
        n is the n-th class that is not the background.
    thresholds: per channel, the probability that a class must reach. Empty: 0.5 for sigmoid, otherwise 0. Among
        the classes that reach theirs, and the background, the most probable one is taken.
    multiple: H and W must be multiples of it.
    tile: height and width of a sliding window's tile, unless the request says otherwise.
    fixed: the graph takes only that tile.
    whole_image: the graph sees the whole image at once, stretched to `tile`, and no window slides.
    overlap: of neighbouring tiles, as a part of their edge.
    """

    TASK: ClassVar[str] = "classes of pixels"

    kind: Literal[ModelKind.SEMANTIC] = ModelKind.SEMANTIC
    classes: tuple[ClassName, ...] = Field(min_length=1, max_length=255)
    background: int | None = Field(None, ge=0)
    activation: Activation = Activation.SIGMOID
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    input: SemanticInput = SemanticInput()
    multiple: int = Field(32, ge=1, le=512)
    tile: tuple[TileEdge, TileEdge] = (512, 512)
    fixed: bool = False
    whole_image: bool = False
    overlap: float = Field(0.25, ge=0, le=0.75)
    postprocess: Postprocess = Postprocess()

    @model_validator(mode="after")
    def check_consistency(self) -> "SemanticManifest":
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


class ResizeEntry(StrictSchema):
    """How Mask R-CNN's input is resized, as by torchvision's GeneralizedRCNNTransform.

    The shorter side becomes `min_size` pixels, or the longer side `max_size` pixels if that is smaller. mean, std: on
    the 0..255 scale.
    """

    min_size: int = Field(ge=32, le=4096)
    max_size: int = Field(ge=32, le=8192)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class InstancesManifest(Manifest):
    """Mask R-CNN, as two graphs: requests set thresholds between them. See `models.export.mask_rcnn`.

    classes: names by index; 0 is the background.
    score_threshold, nms_threshold, mask_threshold, max_objects: the defaults of requests.
    """

    TASK: ClassVar[str] = "objects of known classes"

    kind: Literal[ModelKind.INSTANCES]
    classes: tuple[str, ...] = Field(min_length=2)
    resize: ResizeEntry
    score_threshold: float = Field(0.5, ge=0, le=1)
    nms_threshold: float = Field(0.5, ge=0, le=1)
    mask_threshold: float = Field(0.5, gt=0, lt=1)
    max_objects: int = Field(100, ge=1)


MANIFEST_ADAPTER: TypeAdapter[PromptableManifest | SemanticManifest | InstancesManifest] = TypeAdapter(
    Annotated[PromptableManifest | SemanticManifest | InstancesManifest, Field(discriminator="kind")]
)
