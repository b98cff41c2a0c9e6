"""Find out what an uploaded file holds (video, frames, pictures or volume) before it is stored."""

import time
from pathlib import Path

from segserve.errors import BadInput, TooLarge
from segserve.files.detect_format import detect_format
from segserve.files.file_contents import check_single_content
from segserve.files.open_file import open_frames, open_volume
from segserve.files.video import VideoFrames
from segserve.files.video_format import DEMUXERS
from segserve.files.volume_format import is_volume_format
from segserve.files.zip_archive import PictureArchive
from segserve.types import FileKind, FileLimits, FileOptions, FileRecord, Size


def probe_file(
    path: Path, file_id: str, limits: FileLimits, options: FileOptions = FileOptions()
) -> FileRecord:
    """Return the record of a file. Its first and last frame are decoded. Blocks.

    options: kept in the record.

    Raises BadInput, TooLarge, UnsupportedFormat, MissingDependency.
    """
    file_format = detect_format(path)
    check_single_content(options)
    file_bytes, now = path.stat().st_size, time.time()
    if is_volume_format(file_format):
        with open_volume(path, file_format, limits) as volume:
            volume.check_complete()
            volume.claim_memory()
            geometry = volume.geometry
            x, y, z = geometry.spacing
            return FileRecord(
                file_id,
                FileKind.VOLUME,
                file_format,
                geometry.slices,
                geometry.slice_size,
                file_bytes,
                now,
                spacing=(z, y, x),
                options=options,
            )
    if file_format == "zip":
        kind, count, size = probe_zip(path, limits)
        return FileRecord(file_id, kind, file_format, count, size, file_bytes, now, options=options)
    frames = open_frames(path, file_format, limits)
    try:
        frames.read(frames.count - 1)
        fps = frames.fps if isinstance(frames, VideoFrames) else None
        kind = FileKind.VIDEO if file_format in DEMUXERS else FileKind.FRAMES
        return FileRecord(
            file_id,
            kind,
            file_format,
            frames.count,
            frames.size,
            file_bytes,
            now,
            fps=fps,
            options=options,
        )
    finally:
        frames.close()


def probe_zip(path: Path, limits: FileLimits) -> tuple[FileKind, int, Size]:
    """Return (kind, number of pictures, size of the first readable one) of a zip of pictures.

    The kind is FRAMES if all pictures have one size, else PICTURES. Every picture's header is read. An unreadable
    picture is accepted unless all are unreadable: in a batch it fails alone. Raises BadInput, TooLarge.
    """
    archive = PictureArchive(path, limits.max_mb, limits.max_frame_pixels)
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
        return FileKind.FRAMES if len(sizes) == 1 else FileKind.PICTURES, archive.count, first
    finally:
        archive.close()
