"""The JSON of jobs on one file: what to follow through it, and how."""

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from segserve.jobs.kinds.job_requests import EngineName
from segserve.projection.mask_to_prompt import Projection
from segserve.types import Direction
from segserve.wire.schemas.automatic import AisParamsIn
from segserve.wire.schemas.common import BasePromptIn, StrictBody

MAX_OBJECTS, MAX_PROMPTS_PER_OBJECT = 256, 1024
MAX_OBJECT_ID = 65_535  # of a 16-bit label map

ObjectId = Annotated[int, Field(ge=1, le=MAX_OBJECT_ID)]
ImageSize = Annotated[int, Field(ge=128, le=1024, multiple_of=64)]
Distance = Annotated[float, Field(ge=0, le=100_000)]
Frame = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class FramePromptIn(BasePromptIn):
    """What is there, on one frame or slice."""

    frame: Frame | None = Field(None, description="from 0")
    slice: Frame | None = Field(None, description="the same, of a volume")

    @model_validator(mode="after")
    def somewhere(self) -> Self:
        if (self.frame is None) == (self.slice is None):
            raise ValueError("send frame, or slice, to say where")
        return self

    @property
    def at(self) -> int:
        found = self.slice if self.frame is None else self.frame
        assert found is not None
        return found


class ObjectPromptsIn(StrictBody):
    """One object: what prompts of the same frame say of it counts together."""

    object_id: ObjectId
    prompts: list[FramePromptIn] = Field(min_length=1, max_length=MAX_PROMPTS_PER_OBJECT, fail_fast=True)


Objects = Annotated[list[ObjectPromptsIn], Field(max_length=MAX_OBJECTS, fail_fast=True)]


class AddPromptsIn(StrictBody):
    """What is asked of a job beside what it was asked before: new objects, and corrections of its own."""

    objects: Objects = Field(min_length=1)


class PropagationParamsIn(StrictBody):
    direction: Direction = Field(
        Direction.BOTH, strict=False, description="from the prompts; what lies between them always counts"
    )
    select: Literal["best", "first"] = Field(
        "best", description="of the candidates on frames with prompts: the highest score, or the first"
    )
    image_size: ImageSize | None = Field(
        None,
        description="of the engine memory: the square it resizes frames to; 1024 if left out, as published",
    )
    projection: Projection = Field(
        Projection.MASK, strict=False, description="what of a mask becomes the prompt on the next frame"
    )
    iou_threshold: Share = Field(0.5, description="an object ends where two masks in a row overlap less")
    min_score: Share = Field(0.7, description="an object ends where the model expects a worse mask")
    box_extension: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="what projected boxes grow by: below 1 parts of their edges, else pixels",
    )


class VideoParamsIn(PropagationParamsIn):
    engine: EngineName | None = Field(
        None, strict=False, description="memory for SAM 2 with weights, otherwise projection, if left out"
    )
    objects: Objects = Field(min_length=1)


class ReferenceIn(StrictBody):
    """Prompts made from a volume of labels, of the same size: of each object on some of its slices."""

    file_id: str = Field(max_length=128)
    labels: list[ObjectId] | None = Field(None, max_length=MAX_OBJECTS, description="all, if left out")
    slices: Literal["first", "centre", "largest"] = Field(
        "largest", description="that of the object on which it is annotated"
    )
    annotated: int = Field(1, ge=1, le=64, description="slices; those beside the first are spread evenly")
    prompt: Literal["points", "box", "mask"] = "box"
    points: int = Field(1, ge=1, le=16, description="positive ones, each as deep inside as the others allow")


class VolumeParamsIn(PropagationParamsIn):
    engine: Literal["memory", "projection", "automatic"] | None = Field(
        None, description="as for videos; automatic: all objects of every slice, joined across them"
    )
    axis: Literal[0, 1, 2] = Field(0, description="to cut along; 0: the slices as they are stored")
    window: tuple[FiniteFloat, FiniteFloat] | None = Field(
        None, description="values that become black and white; if left out, percentiles of the volume"
    )
    objects: Objects = Field([])
    reference: ReferenceIn | None = None
    automatic: AisParamsIn = Field(
        AisParamsIn(), description="of the engine automatic: as of POST /v1/automatic"
    )
    beta: float = Field(0.5, gt=0, lt=1, description="of the engine automatic: higher joins less")
    gap_closing: int | None = Field(
        None, ge=1, le=16, description="of the engine automatic: each closes gaps of two slices more"
    )
    min_z_extent: int | None = Field(
        None, ge=1, le=65_536, description="of the engine automatic: objects on fewer slices go"
    )

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError("the window is empty or reversed: send [low, high]")
        asked = bool(self.objects) + (self.reference is not None)
        if self.engine == "automatic" and asked:
            raise ValueError("the engine automatic takes no objects and no reference")
        if self.engine != "automatic" and asked != 1:
            raise ValueError("send objects, or a reference to make them from")
        return self


class LinkingIn(StrictBody):
    """See `segserve.tracking.link_tracks.LinkingParams`; distances are between centroids, in pixels."""

    cutoff: Distance | None = Field(
        None, description="how far an object moves from frame to frame at most; by their size if left out"
    )
    gap_closing_cutoff: Distance | None = Field(None, description="how far it moves while it is missed")
    gap_closing_max_frame_count: int | None = Field(
        None, ge=1, le=16, description="the next time it is seen is so many frames later at most"
    )
    splitting_cutoff: Distance | None = Field(
        None, description="how far daughters are from where their mother was; 0: nothing divides"
    )


class TrackingParamsIn(StrictBody):
    method: Literal["ais"] = "ais"
    params: AisParamsIn = Field(AisParamsIn(), description="as of POST /v1/automatic")
    linking: LinkingIn = LinkingIn()
