"""The JSON of video and volume jobs: which objects to follow through the file, and how."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from segserve.jobs.kinds.job_requests import EngineName
from segserve.projection.mask_to_prompt import Projection
from segserve.types import Direction
from segserve.wire.schemas.automatic import AisParamsIn
from segserve.wire.schemas.base_job import BaseJobIn, FileIn
from segserve.wire.schemas.common import MAX_OBJECTS_VALUES, Id, PieceLimits, StrictBody
from segserve.wire.schemas.prompts import BasePromptIn

MAX_OBJECTS = 256  # of a job
MAX_PROMPTS_PER_OBJECT = 1024  # on all frames together
MAX_OBJECT_ID = 65_535  # the largest value of a 16-bit label map

MAX_NAME = 64  # characters, which is what a segment's label in DICOM may have (PS3.5, 6.2: LO)

ObjectId = Annotated[int, Field(ge=1, le=MAX_OBJECT_ID)]
# DICOM separates values by backslashes.
ObjectName = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f\x7f\\]+$")]
ImageSize = Annotated[int, Field(ge=128, le=1024, multiple_of=64)]
Frame = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class FramePromptIn(BasePromptIn):
    """A prompt on one frame of a video or slice of a volume."""

    frame: Frame | None = Field(None, description="index of the frame, from 0")
    slice: Frame | None = Field(None, description="index of the slice of a volume, from 0; instead of frame")

    @model_validator(mode="after")
    def check_frame_or_slice(self) -> Self:
        if (self.frame is None) == (self.slice is None):
            raise ValueError("send frame, or slice, to say where")
        return self

    @property
    def index(self) -> int:
        """The frame or slice, from 0."""
        index = self.slice if self.frame is None else self.frame
        assert index is not None
        return index


class ObjectPromptsIn(StrictBody):
    """The prompts of one object. Prompts on the same frame are used together."""

    object_id: ObjectId = Field(description="your number of the object: its value in label maps")
    name: ObjectName | None = Field(
        None,
        description="what the object is: results as DICOM SEG and COCO say it; the latest one sent counts",
    )
    prompts: list[FramePromptIn] = Field(
        min_length=1,
        max_length=MAX_PROMPTS_PER_OBJECT,
        fail_fast=True,
        description="clicks, boxes or masks, each on a frame",
    )


Objects = Annotated[list[ObjectPromptsIn], Field(max_length=MAX_OBJECTS, fail_fast=True)]


class AddPromptsIn(StrictBody):
    """Prompts to add to a job: new objects, and corrections of objects that it has."""

    max_values = MAX_OBJECTS_VALUES
    pieces: ClassVar[PieceLimits] = {("objects",): MAX_OBJECTS_VALUES}

    objects: Objects = Field(min_length=1, description="new objects, and corrections of those the job has")


class PropagationParamsIn(StrictBody):
    """The fields that video and volume share."""

    direction: Direction = Field(
        Direction.BOTH,
        strict=False,
        description="where objects are followed from their prompts; frames between two prompts are always included",
    )
    select: Literal["best", "first"] = Field(
        "best",
        description="which candidate mask is taken on frames with prompts: the best, or the first",
    )
    raw: bool = Field(
        False,
        description="the model's own masks, as μSAM and SAM 2 take them; otherwise small holes are filled, and parts"
        " are removed: with projection all that nothing marks, before a mask prompts the next frame; with memory those"
        " that are small beside the largest one, from the answer alone",
    )
    image_size: ImageSize | None = Field(
        None,
        description="engine memory: edge of the square that frames are resized to, in pixels; 1024 if left out, as "
        "published",
    )
    projection: Projection = Field(
        Projection.MASK,
        strict=False,
        description="engine projection: what is made of a mask to prompt the next frame",
    )
    iou_threshold: Fraction = Field(
        0.5, description="an object ends where the masks of two neighbouring frames have a lower IoU"
    )
    min_score: Fraction = Field(0.7, description="an object ends where its mask has a lower predicted IoU")
    box_extension: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="how much projected boxes grow: below 1 as a part of their edges, else in pixels",
    )
    min_contrast: Fraction = Field(
        0.0,
        description="engine projection: an object ends where its contrast to its surroundings is a smaller part of that"
        " on the frame with its prompt; 0: never",
    )
    min_likeness: float = Field(
        -1.0,
        ge=-1,
        le=1,
        description="engine projection: an object ends where its direction in the embedding has a lower cosine to that"
        " on the frame with its prompt; -1: never",
    )
    max_move: Fraction = Field(
        0.0,
        description="engine projection: how far from where it should be an object is looked for, as a part of the"
        " frame's longer edge; 0: the prompt does not move with the object, as in μSAM",
    )
    min_step_likeness: float = Field(
        -1.0,
        ge=-1,
        le=1,
        description="engine projection, with max_move: an object is missing where its direction in the embedding has a"
        " lower cosine to its mean over the frames before; -1: never",
    )
    max_overlap: Fraction = Field(
        1.0,
        description="engine projection, with max_move: where two objects share a larger part of the smaller one, the"
        " one that is less like itself is missing; 1: never",
    )
    max_gap: int = Field(
        0,
        ge=0,
        le=1000,
        description="for how many frames a missing object is looked for before it is lost; engine projection: with"
        " max_move",
    )


class VideoParamsIn(PropagationParamsIn):
    """The objects of a video, and how they are followed."""

    iou_threshold: Fraction = Field(
        0.4,
        description="an object is missing where the masks of two neighbouring frames, moved onto each other, have a"
        " lower IoU",
    )
    min_likeness: float = Field(
        0.75,
        ge=-1,
        le=1,
        description="engine projection: an object is missing where its direction in the embedding has a lower cosine to"
        " that on the frame with its prompt; -1: never",
    )
    max_move: Fraction = Field(
        0.1,
        description="engine projection: how far from where it should be an object is looked for, as a part of the"
        " frame's longer edge; 0: the prompt does not move with the object, as in μSAM",
    )
    min_step_likeness: float = Field(
        0.75,
        ge=-1,
        le=1,
        description="engine projection, with max_move: an object is missing where its direction in the embedding has a"
        " lower cosine to its mean over the frames before; -1: never",
    )
    max_overlap: Fraction = Field(
        0.5,
        description="engine projection, with max_move: where two objects share a larger part of the smaller one, the"
        " one that is less like itself is missing; 1: never",
    )
    max_gap: int = Field(
        10,
        ge=0,
        le=1000,
        description="for how many frames a missing object is looked for before it is lost; engine projection: with"
        " max_move",
    )
    engine: EngineName | None = Field(
        None,
        strict=False,
        description="if left out: memory where the model is a SAM 2 with weights, otherwise projection",
    )
    objects: Objects = Field(min_length=1, description="the objects to follow")


class ReferenceIn(StrictBody):
    """A label volume of the same size. The prompts of each object are made from its labels on some slices."""

    file_id: Id = Field(description="of the label volume, as POST /v1/files answered it")
    labels: list[ObjectId] | None = Field(
        None, max_length=MAX_OBJECTS, description="the labels to follow; all if left out"
    )
    slices: Literal["first", "centre", "largest"] = Field(
        "largest", description="the slice of each object that gets prompts"
    )
    annotated: int = Field(
        1,
        ge=1,
        le=64,
        description="number of slices of each object that get prompts; further ones are spread evenly",
    )
    prompt: Literal["points", "box", "mask"] = Field(
        "box", description="what is made of the labels on those slices"
    )
    points: int = Field(
        1,
        ge=1,
        le=16,
        description="number of positive points on a slice, each as deep inside the object as the others allow",
    )


class VolumeParamsIn(PropagationParamsIn):
    """The objects of a volume, and how they are followed or found."""

    engine: Literal["memory", "projection", "automatic"] | None = Field(
        None,
        description="memory, projection: as for videos; automatic: all objects of every slice, merged across slices",
    )
    axis: Literal[0, 1, 2] = Field(
        0, description="the array axis along which slices follow each other; 0: the slices as they are stored"
    )
    window: tuple[FiniteFloat, FiniteFloat] | None = Field(
        None,
        description="the values that become black and white; if left out, the window of a DICOM file, or"
        " percentiles of the volume",
    )
    min_score: Fraction = Field(0.5, description="an object ends where its mask has a lower predicted IoU")
    min_contrast: Fraction = Field(
        0.3,
        description="engine projection: an object ends where its contrast to its surroundings is a smaller part of that"
        " on the slice with its prompt; engine automatic: an object is left out whose contrast is a smaller part of the"
        " median object's; 0: never",
    )
    min_likeness: float = Field(
        0.6,
        ge=-1,
        le=1,
        description="engine projection: an object ends where its direction in the embedding has a lower cosine to that"
        " on the slice with its prompt; -1: never",
    )
    objects: Objects = Field([], description="the objects to follow")
    reference: ReferenceIn | None = Field(
        None, description="a label volume to make the prompts from, instead of objects"
    )
    automatic: AisParamsIn = Field(
        AisParamsIn(), description="engine automatic: params of POST /v1/automatic with method ais"
    )
    beta: float = Field(
        0.5, gt=0, lt=1, description="engine automatic: a higher value merges fewer objects across slices"
    )
    gap_closing: int | None = Field(
        None,
        ge=1,
        le=16,
        description="engine automatic: iterations of a closing along the slices; n close gaps of 2 n slices",
    )
    min_z_extent: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="engine automatic: objects on fewer slices are left out (2; with raw 1)",
    )
    min_size_share: Fraction | None = Field(
        None,
        description="engine automatic: objects with a smaller part of the median object's voxels are left out (0.05;"
        " with raw 0)",
    )

    @model_validator(mode="after")
    def check_consistent(self) -> Self:
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError("the window is empty or reversed: send [low, high]")
        sources = bool(self.objects) + (self.reference is not None)
        if self.engine == "automatic" and sources:
            raise ValueError("the engine automatic takes no objects and no reference")
        if self.engine != "automatic" and sources != 1:
            raise ValueError("send objects, or a reference to make them from")
        return self


class VideoIn(BaseJobIn):
    """Objects followed through a video, or a stack of frames of one size."""

    kind: Literal["video"] = Field(description="video")
    input: FileIn = Field(description="the video, or a stack of frames of one size")
    params: VideoParamsIn = Field(description="the objects, and how they are followed")


class VolumeIn(BaseJobIn):
    """Objects followed through a volume, slice by slice; with the engine automatic all objects of the volume."""

    kind: Literal["volume"] = Field(description="volume")
    input: FileIn = Field(description="the volume")
    params: VolumeParamsIn = Field(description="the objects, and how they are followed or found")
