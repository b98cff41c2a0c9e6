"""The JSON of /v1/images."""

from pydantic import BaseModel, Field

from segserve.wire.schemas.common import StrictBody


class FetchImageIn(StrictBody):
    """An image for the service to fetch, from a host that the operator allows."""

    url: str = Field(
        max_length=4096,
        description="http or https URL of the image",
        examples=["https://example.org/cells.png"],
    )


class ImageOut(BaseModel):
    """A stored image."""

    image_id: str = Field(description="names the image in all other requests")
    width: int = Field(description="pixels")
    height: int = Field(description="pixels")
    page: int = Field(description="which page of the file it is, from 0")
    pages: int = Field(description="how many pages the file has; 1 for most pictures")
    hints: list[str] = Field(description="what to know about it, such as that other pages were not read")
