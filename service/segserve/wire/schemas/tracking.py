"""The JSON of a tracking job: all objects of every frame, linked to tracks."""

from typing import Annotated, Literal

from pydantic import Field

from segserve.wire.schemas.automatic import AisParamsIn
from segserve.wire.schemas.base_job import BaseJobIn, FileIn
from segserve.wire.schemas.common import StrictBody

Distance = Annotated[float, Field(ge=0, le=100_000)]
Weight = Annotated[float, Field(ge=0, le=100)]
FrameCount = Annotated[int, Field(ge=0, le=100_000)]


class LinkingIn(StrictBody):
    """How objects are linked to tracks. Distances are between centroids, in pixels.

    What laptrack has too has its names.
    """

    cutoff: Distance | None = Field(
        None,
        description="how far an object may move from one frame to the next; by the size of the objects if left out",
    )
    gap_closing_cutoff: Distance | None = Field(
        None, description="how far an object may move while it is not detected"
    )
    gap_closing_max_frame_count: int | None = Field(
        None,
        ge=1,
        le=16,
        description="a lost object must be detected again within this many frames; 3, the default, allows two missed"
        " frames; with raw 2",
    )
    splitting_cutoff: Distance | None = Field(
        None,
        description="how far daughters may be from the last position of their mother; 0: nothing divides",
    )
    raw: bool = Field(
        False,
        description="link by laptrack, which knows only positions: every piece is an object, every one that appears"
        " near another is its daughter, and nothing that follows here has an effect",
    )
    size_weight: Weight | None = Field(
        None,
        description="what a link costs between objects of which one is twice as large (0.25); a move over the whole"
        " cutoff costs 1",
    )
    likeness_weight: Weight | None = Field(
        None,
        description="what a link costs between objects that look no more alike in the embedding than any two (0.25)",
    )
    min_daughter_frames: FrameCount | None = Field(
        None,
        description="a division counts if both daughters are detected on at least so many frames (5); pieces that touch"
        " and last shorter, or come together again, are one object; 0: every piece is an object",
    )
    min_track_frames: FrameCount | None = Field(
        None,
        description="objects detected on fewer frames are left out (3), but for those that divide, and those that the"
        " first or the last frame cuts",
    )


class TrackingParamsIn(StrictBody):
    """How objects are found on each frame, and linked to tracks."""

    method: Literal["ais"] = Field("ais", description="how objects are found on each frame")
    params: AisParamsIn = Field(
        AisParamsIn(), description="params of POST /v1/automatic with method ais, for every frame"
    )
    linking: LinkingIn = Field(LinkingIn(), description="how objects are linked to tracks")


class TrackingIn(BaseJobIn):
    """All objects of every frame of a video, linked to tracks."""

    kind: Literal["tracking"] = Field(description="tracking")
    input: FileIn = Field(description="the video")
    params: TrackingParamsIn = Field(TrackingParamsIn(), description="how objects are found and linked")
