"""What an uploaded file is: found out from its content, before it is kept."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segserve.errors import BadInput, TooLarge, UnsupportedFormat
from segserve.files import video, volume
from segserve.files.frames import Frames, Stack
from segserve.files.tiff_stack import TiffStack
from segserve.files.video import VideoFrames
from segserve.files.volume import Volume
from segserve.files.zip_archive import Archive
from segserve.types import FileKind, FileLimits, FileRecord, Size

ZIP = b"PK"
TIFF = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
READ = "mp4, mov, webm, avi, gif; a zip of pictures or of a DICOM series; TIFF; NIfTI, NRRD, MetaImage"


def probe(path: Path, file_id: str, limits: FileLimits) -> FileRecord:
    """Its first and last frame are decoded. Blocks. Raises BadInput, TooLarge, UnsupportedFormat, MissingDependency."""
    form = format_of(path)
    size_of_file, now = path.stat().st_size, time.time()
    if form in (*volume.SUFFIXES, "dicom"):
        with opened_volume(path, form, limits) as found:
            shape = found.geometry
            x, y, z = shape.spacing
            return FileRecord(
                file_id, FileKind.VOLUME, form, shape.slices, shape.plane, size_of_file, now, (z, y, x)
            )
    if form == "zip":
        return FileRecord(file_id, *probe_zip(path, limits), size_of_file, now)
    frames = open_frames(path, form, limits)
    try:
        frames.read(frames.count - 1)
        fps = frames.fps if isinstance(frames, VideoFrames) else None
        kind = FileKind.VIDEO if form in video.FORMATS else FileKind.FRAMES
        return FileRecord(file_id, kind, form, frames.count, frames.size, size_of_file, now, fps=fps)
    finally:
        frames.close()


def probe_zip(path: Path, limits: FileLimits) -> tuple[FileKind, str, int, Size]:
    """Frames where all pictures have one size, else pictures. Each header is read, and one that is none refused
    only with the others: in a batch it fails alone."""
    archive = Archive(path, limits.mb, limits.pixels)
    try:
        sizes = set[Size | None]()
        first: Size | None = None
        for index in range(archive.count):
            try:
                size = archive.picture_size(index)
            except TooLarge:
                raise
            except BadInput:
                sizes.add(None)
                continue
            first = first or size
            sizes.add(size)
        if first is None:
            raise BadInput(
                "None of the pictures in the zip can be read.",
                field="file",
                remedy="Send PNG, JPEG, WebP, BMP or TIFF.",
            )
        return FileKind.FRAMES if len(sizes) == 1 else FileKind.PICTURES, "zip", archive.count, first
    finally:
        archive.close()


def format_of(path: Path) -> str:
    """By its content. Raises UnsupportedFormat, TooLarge."""
    with path.open("rb") as file:
        head = file.read(16)
        if head[:2] == ZIP:
            return "dicom" if volume.has_dicom(path) else "zip"
        if head[:4] in TIFF:
            return "tiff"
        if (found := video.format_of(head) or volume.format_of(file)) is not None:
            return found
    raise UnsupportedFormat(
        "The file is in no format that is read.", field="file", remedy=f"Send one of: {READ}."
    )


def open_frames(path: Path, form: str, limits: FileLimits) -> Frames:
    """Of a video or a stack. The caller closes it. Raises BadInput, TooLarge, MissingDependency."""
    if form in video.FORMATS:
        return VideoFrames(path, form, limits.pixels)
    if form == "zip":
        return Stack(Archive(path, limits.mb, limits.pixels))
    return Stack(TiffStack(path, limits.pixels))


@contextmanager
def opened_volume(path: Path, form: str, limits: FileLimits) -> Iterator[Volume]:
    """As `open_frames`."""
    named = path
    if form in volume.SUFFIXES:  # ITK goes by names
        named = path.with_name(path.name + volume.SUFFIXES[form])
        named.hardlink_to(path)
    found: Volume | None = None
    try:
        found = Volume(named, form, limits.mb, limits.voxels)
        yield found
    finally:
        if found is not None:
            found.close()
        if named is not path:
            named.unlink()
