"""The JSON of a tracking job: all objects of every frame, linked to tracks."""

from typing import Annotated, Literal

from pydantic import Field

from segserve.wire.schemas.automatic import AisParamsIn
from segserve.wire.schemas.base_job import BaseJobIn, FileIn
from segserve.wire.schemas.common import StrictBody

Distance = Annotated[float, Field(ge=0, le=100_000)]


class LinkingIn(StrictBody):
    """How objects are linked to tracks, with laptrack's names. Distances are between centroids, in pixels."""

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
        description="a lost object must be detected again within this many frames; 2 allows one missed frame",
    )
    splitting_cutoff: Distance | None = Field(
        None,
        description="how far daughters may be from the last position of their mother; 0: nothing divides",
    )


class TrackingParamsIn(StrictBody):
    """How objects are found on each frame, and linked to tracks."""

    method: Literal["ais"] = "ais"
    params: AisParamsIn = Field(
        AisParamsIn(), description="params of POST /v1/automatic with method ais, for every frame"
    )
    linking: LinkingIn = LinkingIn()


class TrackingIn(BaseJobIn):
    """All objects of every frame of a video, linked to tracks."""

    kind: Literal["tracking"]
    input: FileIn
    params: TrackingParamsIn = TrackingParamsIn()
