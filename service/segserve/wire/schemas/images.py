"""The JSON of /v1/images."""

from typing import Literal, Self

from pydantic import BaseModel, Field, FiniteFloat, model_validator

from segserve.wire.schemas.common import Id, StrictBody


class FetchImageIn(StrictBody):
    """An image for the service to take: by its URL, from a host that the operator allows; or a frame or slice of a
    stored file."""

    url: str | None = Field(
        None,
        max_length=4096,
        description="http or https URL of the image",
        examples=["https://example.org/cells.png"],
    )
    file_id: Id | None = Field(None, description="a video, stack or volume, as POST /v1/files answered it")
    frame: int | None = Field(
        None, ge=0, le=1 << 40, description="which frame or slice of the file it is, from 0"
    )
    axis: Literal[0, 1, 2] = Field(
        0, description="of a volume, the array axis along which slices are numbered; 0: as they are stored"
    )
    window: tuple[FiniteFloat, FiniteFloat] | None = Field(
        None,
        description="of a volume, the values that become black and white; chosen as for jobs if left out",
    )

    @model_validator(mode="after")
    def check_source(self) -> Self:
        if (self.url is None) == (self.file_id is None):
            raise ValueError("send url, or file_id with frame")
        if (self.file_id is None) != (self.frame is None):
            raise ValueError("file_id and frame belong together")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError("the window is empty or reversed: send [low, high]")
        return self


class TilesOut(BaseModel):
    """How an image is cut for GET /v1/images/{image_id}/tiles/{level}/{x}/{y}."""

    size: int = Field(description="pixels a side of a tile")
    levels: int = Field(
        description="how many levels there are: 0 is one tile, the last one is the image itself"
    )


class ImageOut(BaseModel):
    """A stored image."""

    image_id: str = Field(description="names the image in all other requests")
    width: int = Field(description="pixels")
    height: int = Field(description="pixels")
    page: int = Field(description="which page of the file it is, from 0")
    pages: int = Field(description="how many pages the file has; 1 for most pictures")
    hints: list[str] = Field(description="what to know about it, such as that other pages were not read")
    tiles: TilesOut = Field(description="its tiles, for viewers that zoom and pan")
