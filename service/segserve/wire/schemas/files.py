"""The JSON of /v1/files: videos, stacks, volumes and zips."""

from typing import Annotated

from pydantic import BaseModel, Field

from segserve.files.file_contents import MAX_NAME_CHARS
from segserve.types import FileKind
from segserve.wire.schemas.common import StrictBody

Uid = Annotated[str, Field(pattern=r"^[0-9.]{1,64}$", examples=["1.2.840.113619.2.1"])]


class DicomwebIn(StrictBody):
    """A DICOM study, or one series of it, on a DICOMweb server that the operator allows."""

    url: str = Field(
        max_length=4096,
        description="the root of the server's DICOMweb services",
        examples=["https://pacs.example.org/dicom-web"],
    )
    study: Uid = Field(description="Study Instance UID")
    series: Uid | None = Field(None, description="Series Instance UID; all series of the study if left out")


class FetchFileIn(StrictBody):
    """A file for the service to fetch."""

    dicomweb: DicomwebIn = Field(description="where the study or series is")


class BeginUploadIn(StrictBody):
    """A file that will be sent straight to the object store."""

    size: int = Field(ge=1, le=1 << 50, description="bytes of the file", examples=[734003200])
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="of the file; checked when the upload is completed, if given",
        examples=["ba789b7dd22c8f0c4e307f40914d0c30e815c5e369b6af5e321b607cc348a829"],
    )
    series: str | None = Field(
        None, min_length=1, max_length=MAX_NAME_CHARS, description="as ?series= of POST /v1/files"
    )
    time: int | None = Field(None, ge=0, le=1_000_000, description="as ?time= of POST /v1/files")


class UploadPartOut(BaseModel):
    """A part of the file, and where to PUT it."""

    offset: int = Field(description="its first byte in the file")
    size: int = Field(description="its bytes")
    url: str = Field(description="to PUT these bytes to, as they are, without the headers of this service")


class UploadOut(BaseModel):
    """An upload that has begun."""

    upload_id: str = Field(description="names the upload until it is completed")
    parts: list[UploadPartOut] = Field(description="in any order, and again where one fails")
    headers: dict[str, str] = Field(description="headers that each PUT must have")
    expires_at: float = Field(description="when the URLs and the upload expire, in seconds since 1970")


class SignedUrlOut(BaseModel):
    """A URL of the object store itself."""

    url: str = Field(description="to GET the file's bytes from, without the headers of this service")
    expires_at: float = Field(description="when it expires, in seconds since 1970")


class FileContentOut(BaseModel):
    """One of the things that a file holds: a series, a clip, a scene."""

    series: str = Field(description="its name, which `?series=` takes")
    description: str = Field(description="the file's own words about it")
    times: int = Field(description="points in time, of which `?time=` takes one, from 0")
    frames: int = Field(description="frames or slices at one point in time")
    width: int = Field(description="of a frame or slice, in pixels")
    height: int = Field(description="of a frame or slice, in pixels")
    taken: bool = Field(description="whether it is what was taken of the file")
    time: int | None = Field(description="the point in time that was taken")
    notes: list[str] = Field(description="what is unusual about it, such as the tilt of a gantry")


class LeftOutFileOut(BaseModel):
    """A file in an archive that was left out."""

    name: str = Field(description="its name in the archive")
    reason: str = Field(description="why it was left out, a sentence")


class LeftOutOut(BaseModel):
    """The files in an archive that were left out: how many, and the first of them."""

    count: int = Field(description="all files that were left out")
    files: list[LeftOutFileOut] = Field(description="the first of them")


class FileAxisOut(BaseModel):
    """An axis along which a file can be cut into frames or slices."""

    axis: int = Field(description="of the array; 0 is from frame to frame, or slice to slice as stored")
    frames: int = Field(description="how many there are along it")
    width: int = Field(description="of each, in pixels")
    height: int = Field(description="of each, in pixels")


class FileOut(BaseModel):
    """A stored file."""

    file_id: str = Field(description="names the file in jobs")
    kind: FileKind = Field(description="what the file holds, by its content")
    format: str = Field(description="the format, by its content, such as tiff, mp4, nifti or dicom")
    frames: int = Field(
        description="frames of a video or stack; slices of a volume; pictures of a zip of pictures"
    )
    width: int = Field(description="of a frame, slice or the first picture, in pixels")
    height: int = Field(description="of a frame, slice or the first picture, in pixels")
    fps: float | None = Field(description="frames per second of a video; null where the file does not say")
    spacing: tuple[float, float, float] | None = Field(
        description="spacing of a volume, or of a TIFF stack whose slices ImageJ or OME has calibrated, in mm: from"
        " slice to slice, row to row, column to column; null where the file does not say"
    )
    axes: list[FileAxisOut] = Field(
        description="the axes along which GET /v1/files/{file_id}/frames/{frame} cuts it: three of a volume, one of"
        " other frames, none of pictures of several sizes"
    )
    contents: list[FileContentOut] = Field(
        description="what the file holds, the first 100; empty for a file that can hold one thing only"
    )
    left_out: LeftOutOut = Field(description="files in the archive that are no part of its contents")
