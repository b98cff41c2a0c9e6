"""The requests of the extension."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, FiniteFloat

from segserve.errors import BadInput
from segserve.models.manifest import NmsKeeps
from segserve.wire.frontends.json_body import ClientBody
from segserve.wire.schemas.prompts import MAX_POINTS

Json = dict[str, Any]
# Pictures of a sequence.
MAX_FRAMES = 10_000
Point = Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]
CheckpointUrl = Annotated[
    str | None, Field(max_length=1024, validation_alias=AliasChoices("checkpoint_url", "checkpointUrl"))
]
# Parameters of the mask generator that both sides have.
AMG_PARAMETERS = (
    "points_per_side",
    "pred_iou_thresh",
    "stability_score_thresh",
    "stability_score_offset",
    "box_nms_thresh",
    "crop_n_layers",
    "crop_nms_thresh",
    "crop_overlap_ratio",
    "crop_n_points_downscale_factor",
    "min_mask_region_area",
)


def fold_case(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


class ModelBody(ClientBody):
    """type: of the model, as the extension names it."""

    type: str = Field("vit_h", max_length=32)
    checkpoint_url: CheckpointUrl = None


class ImageBody(ModelBody):
    """b64img: an image file."""

    b64img: str


class DrawnObject(ClientBody):
    """The prompt of an object. Coordinates are pixels of the image."""

    bbox: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)] | None = None
    point_coords: list[Point] | None = Field(None, max_length=MAX_POINTS)
    point_labels: list[int] | None = Field(None, max_length=MAX_POINTS)

    def to_prompt(self) -> Json:
        """Return the JSON of `PromptIn`. Raises BadInput."""
        prompt: Json = {"points": self.point_coords or []}
        if self.point_labels is not None:
            prompt["labels"] = self.point_labels
        return prompt if self.bbox is None else {**prompt, "box": self.bbox}


class PromptBody(ImageBody, DrawnObject):
    """One object on the image that comes with it."""

    b64mask: str | None = None
    multimask_output: bool = False

    def to_prompt(self) -> Json:
        """Return the JSON of `PromptIn`. Raises BadInput."""
        if self.b64mask:
            raise BadInput(
                "Masks are no prompts here.", field="b64mask", remedy="Prompt by points or a rectangle."
            )
        return super().to_prompt()


class SequenceObject(DrawnObject):
    """An object on one picture of a sequence."""

    obj_id: int = Field(0, ge=0, lt=65_535)


class SequenceBody(ModelBody):
    """Objects on a sequence of pictures: slices (XYZ) or time points (XYT).

    dirname: under which the pictures were uploaded; b64imgs: the pictures themselves.
    plane_position: of the other axis, for the answer. objs: by the number of the picture that they are drawn on.
    start_frame_idx, max_frame_num_to_track: the first picture that is answered, and how many after it; None: all.
    """

    dirname: str | None = Field(None, min_length=1, max_length=128)
    b64imgs: list[str] | None = Field(None, max_length=MAX_FRAMES)
    axes: Literal["XYZ", "XYT"] = "XYT"
    plane_position: int = 0
    start_frame_idx: int | None = Field(None, ge=0)
    max_frame_num_to_track: int | None = Field(None, ge=0)
    objs: dict[Annotated[int, Field(ge=0)], list[SequenceObject]] = Field(min_length=1, max_length=MAX_FRAMES)


class OutputType(StrEnum):
    """The masks of each point that count, as the extension names them."""

    SINGLE = "single mask"
    ALL = "multi-mask (all)"
    LARGEST = "multi-mask (largest)"
    SMALLEST = "multi-mask (smallest)"
    BEST = "multi-mask (best quality)"


# samapi prefers the smaller of two single masks too.
NMS_KEEPS = {
    OutputType.SINGLE: NmsKeeps.SMALLEST,
    OutputType.ALL: NmsKeeps.ALL,
    OutputType.LARGEST: NmsKeeps.LARGEST,
    OutputType.SMALLEST: NmsKeeps.SMALLEST,
    OutputType.BEST: NmsKeeps.BEST,
}


class AutoMaskBody(ImageBody):
    """The parameters of SAM's mask generator. points_per_batch changes nothing.

    output_type: in any case; the extension and samapi differ in it. include_image_edge: keep masks that fill the view.
    """

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0
    output_type: Annotated[OutputType, BeforeValidator(fold_case)] = OutputType.SINGLE
    include_image_edge: bool = False

    @property
    def is_raw(self) -> bool:
        """Whether overlapping masks are wanted: a choice among objects would take the smaller ones alone."""
        return self.output_type in (OutputType.ALL, OutputType.LARGEST)

    def to_params(self) -> Json:
        """Return the JSON of `AmgParamsIn`."""
        return {
            **self.model_dump(include=set(AMG_PARAMETERS)),
            "multimask_output": self.output_type is not OutputType.SINGLE,
            "nms_keeps": NMS_KEEPS[self.output_type],
        }
