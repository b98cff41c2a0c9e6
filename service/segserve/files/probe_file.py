"""Find out what an uploaded file holds (video, frames, pictures or volume) before it is stored."""

import time
from pathlib import Path

from segserve.errors import BadInput, TooLarge
from segserve.files import video, volume
from segserve.files.detect_format import detect_format
from segserve.files.open_file import open_frames, open_volume
from segserve.files.video import VideoFrames
from segserve.files.zip_archive import PictureArchive
from segserve.types import FileKind, FileLimits, FileRecord, Size


def probe_file(path: Path, file_id: str, limits: FileLimits) -> FileRecord:
    """Its first and last frame are decoded. Blocks. Raises BadInput, TooLarge, UnsupportedFormat, MissingDependency."""
    form = detect_format(path)
    size_of_file, now = path.stat().st_size, time.time()
    if form in (*volume.SUFFIX_BY_FORMAT, "dicom"):
        with open_volume(path, form, limits) as found:
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
        kind = FileKind.VIDEO if form in video.DEMUXERS else FileKind.FRAMES
        return FileRecord(file_id, kind, form, frames.count, frames.size, size_of_file, now, fps=fps)
    finally:
        frames.close()


def probe_zip(path: Path, limits: FileLimits) -> tuple[FileKind, str, int, Size]:
    """Frames where all pictures have one size, else pictures. Each header is read, and one that is none refused
    only with the others: in a batch it fails alone."""
    archive = PictureArchive(path, limits.mb, limits.pixels)
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
