"""Find out what an uploaded file holds (video, frames, pictures or volume) before it is stored."""

import time
from contextlib import closing
from pathlib import Path

from segserve.errors import BadInput, TooLarge
from segserve.files.detect_format import detect_format
from segserve.files.file_contents import check_single_content, list_contents, list_left_out
from segserve.files.open_file import import_dicom, open_frames, open_other_volume
from segserve.files.video import VideoFrames
from segserve.files.video_format import DEMUXERS
from segserve.files.volume_format import DICOM_SERIES, is_volume_format
from segserve.files.zip_archive import PictureArchive
from segserve.images.formats import SUPPORTED_FORMATS
from segserve.types import FileKind, FileLimits, FileOptions, FileRecord, Size


def probe_file(
    path: Path, file_id: str, limits: FileLimits, options: FileOptions = FileOptions()
) -> FileRecord:
    """Return the record of a file. Its first and last frame are decoded. Blocks.

    options: kept in the record.

    Raises BadInput, TooLarge, UnsupportedFormat, MissingDependency.
    """
    file_format = detect_format(path)
    if file_format == DICOM_SERIES:
        return probe_dicom(path, file_id, limits, options)
    file_bytes, now = path.stat().st_size, time.time()
    if is_volume_format(file_format):
        with closing(open_other_volume(path, file_format, limits, options)) as volume:
            volume.check_complete()
            volume.claim_memory()
            geometry = volume.geometry
            x, y, z = geometry.spacing
            return FileRecord(
                file_id,
                FileKind.FRAMES if volume.has_colour else FileKind.VOLUME,
                file_format,
                geometry.slices,
                geometry.slice_size,
                file_bytes,
                now,
                spacing=(z, y, x),
                options=options,
                contents=volume.contents,
                left_out=volume.left_out,
            )
    check_single_content(options)
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


def probe_dicom(path: Path, file_id: str, limits: FileLimits, options: FileOptions) -> FileRecord:
    """Return the record of DICOM files. All frames of the series that is taken are decoded, at all points in time."""
    dicom = import_dicom()
    with closing(dicom.DicomFile(path, limits, options)) as file:
        spacing = None
        if file.kind is FileKind.VOLUME:
            volume = dicom.DicomVolume(file, limits)
            volume.claim_memory()
            x, y, z = volume.geometry.spacing
            count, size, spacing = volume.geometry.slices, volume.geometry.slice_size, (z, y, x)
        else:
            frames = dicom.DicomFrames(file, limits)
            count, size = frames.count, frames.size
        file.check_complete()
        return FileRecord(
            file_id,
            file.kind,
            DICOM_SERIES,
            count,
            size,
            path.stat().st_size,
            time.time(),
            spacing,
            None if spacing else file.fps,
            options,
            list_contents(file.contents),
            list_left_out(file.left_out),
        )


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
                remedy=f"Send {SUPPORTED_FORMATS}.",
            )
        return FileKind.FRAMES if len(sizes) == 1 else FileKind.PICTURES, archive.count, first
    finally:
        archive.close()
