"""The requests of the extension."""

from typing import Annotated, Any

from pydantic import AliasChoices, Field, FiniteFloat

from segserve.errors import BadInput
from segserve.wire.frontends.json_body import ClientBody
from segserve.wire.schemas.prompts import MAX_POINTS

Json = dict[str, Any]
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


class ImageBody(ClientBody):
    """type: of the model, as the extension names it. b64img: an image file."""

    type: str = Field("vit_h", max_length=32)
    b64img: str
    checkpoint_url: CheckpointUrl = None


class PromptBody(ImageBody):
    """One object. Coordinates are pixels of the image that comes with it."""

    bbox: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)] | None = None
    point_coords: list[Point] | None = Field(None, max_length=MAX_POINTS)
    point_labels: list[int] | None = Field(None, max_length=MAX_POINTS)
    b64mask: str | None = None
    multimask_output: bool = False

    def to_prompt(self) -> Json:
        """Return the JSON of `PromptIn`. Raises BadInput."""
        if self.b64mask:
            raise BadInput(
                "Masks are no prompts here.", field="b64mask", remedy="Prompt by points or a rectangle."
            )
        prompt: Json = {"points": self.point_coords or []}
        if self.point_labels is not None:
            prompt["labels"] = self.point_labels
        return prompt if self.bbox is None else {**prompt, "box": self.bbox}


class AutoMaskBody(ImageBody):
    """The parameters of SAM's mask generator. output_type, include_image_edge and points_per_batch change nothing."""

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
