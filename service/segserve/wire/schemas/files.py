"""The JSON of /v1/files: videos, stacks, volumes and zips."""

from pydantic import BaseModel, Field

from segserve.types import FileKind


class FileOut(BaseModel):
    """A stored file."""

    file_id: str
    kind: FileKind
    format: str
    frames: int = Field(
        description="frames of a video or stack; slices of a volume; pictures of a zip of pictures"
    )
    width: int
    height: int
    fps: float | None
    spacing: tuple[float, float, float] | None = Field(
        description="spacing of a volume in mm: from slice to slice, row to row, column to column"
    )
