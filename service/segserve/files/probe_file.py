"""Find out what an uploaded file holds (video, frames, pictures or volume) before it is stored."""

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from segserve.files.detect_format import detect_format
from segserve.files.file_contents import check_single_content, list_contents, list_left_out
from segserve.files.frames import NormalisedFrames
from segserve.files.microscopy.open_microscope_file import MICROSCOPE_FORMATS
from segserve.files.open_file import (
    OPENING_BYTES_PER_PIXEL,
    import_dicom,
    open_microscope_stack,
    open_other_volume,
)
from segserve.files.picture_archive import PictureArchive
from segserve.files.tiff_stack import TiffStack
from segserve.files.video import VideoFrames
from segserve.files.video_format import DEMUXERS
from segserve.files.volume_format import DICOM_SERIES, is_volume_format
from segserve.sandbox.confine import allow_memory
from segserve.types import FileContent, FileKind, FileLimits, FileOptions, FileRecord, FrameIndex, LeftOutFile

# The name of a file's content. There is one if there is something to note about it.
VIDEO_CONTENT = "video"
PICTURES_CONTENT = "pictures"


def probe_file(
    path: Path, file_id: str, limits: FileLimits, options: FileOptions = FileOptions()
) -> FileRecord:
    """Return the record of a file, which is checked as far as a job would read it. Blocks.

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
    if file_format in MICROSCOPE_FORMATS:
        return replace(probe_microscope_file(path, file_format, limits, options), file_id=file_id)
    check_single_content(options)
    if file_format == "zip":
        return replace(probe_zip(path, limits), file_id=file_id, options=options)
    if file_format in DEMUXERS:
        return replace(probe_video(path, file_format, limits), file_id=file_id, options=options)
    allow_memory(OPENING_BYTES_PER_PIXEL * limits.max_frame_pixels, used=0)
    stack = TiffStack(path, limits.max_frame_pixels)
    with closing(NormalisedFrames(stack)) as frames:
        frames.read(frames.count - 1)
        return FileRecord(
            file_id,
            FileKind.FRAMES,
            file_format,
            frames.count,
            frames.size,
            file_bytes,
            now,
            spacing=stack.read_spacing(),
            options=options,
        )


def probe_microscope_file(
    path: Path, file_format: str, limits: FileLimits, options: FileOptions
) -> FileRecord:
    """Return the record of a file of a microscope, without file_id. All images of the series are read."""
    stack = open_microscope_stack(path, file_format, limits, options)
    with closing(NormalisedFrames(stack)) as frames:
        stack.check_complete()
        frames.read(frames.count - 1)
        return FileRecord(
            "",
            FileKind.FRAMES,
            file_format,
            frames.count,
            frames.size,
            path.stat().st_size,
            time.time(),
            options=options,
            contents=list_contents(stack.contents),
            left_out=list_left_out(stack.left_out),
        )


def probe_dicom(path: Path, file_id: str, limits: FileLimits, options: FileOptions) -> FileRecord:
    """Return the record of DICOM files. All frames that are taken are read."""
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


def probe_video(path: Path, file_format: str, limits: FileLimits) -> FileRecord:
    """Return the record of a video, without file_id and options. Raises BadInput, TooLarge, MissingDependency."""
    with closing(VideoFrames(path, file_format, limits.max_frame_pixels)) as frames:
        notes = frames.check()
        frames.read(frames.count - 1)
        content = FileContent(VIDEO_CONTENT, "", 1, frames.count, frames.size, 0, tuple(notes))
        return FileRecord(
            "",
            FileKind.VIDEO,
            file_format,
            frames.count,
            frames.size,
            path.stat().st_size,
            time.time(),
            fps=frames.fps,
            contents=list_contents([content] if notes else []),
            frame_index=FrameIndex(None if frames.is_ordered_by_time else frames.count),
        )


def probe_zip(path: Path, limits: FileLimits) -> FileRecord:
    """Return the record of a zip of pictures, without file_id and options.

    The kind is FRAMES if all pictures have one size, else PICTURES. Every entry is unpacked, and every picture's header
    is read; the first ones are decoded. What is no picture, or damaged, is left out. Raises BadInput, TooLarge.
    """
    allow_memory(OPENING_BYTES_PER_PIXEL * limits.max_frame_pixels, used=0)
    with closing(PictureArchive(path, limits.max_mb, limits.max_frame_pixels)) as archive:
        pictures = [(entry, entry.size) for entry in archive.examined if entry.size is not None]
        sizes = {size for _, size in pictures}
        notes = (*describe_pages(archive), *describe_names(archive))
        content = FileContent(PICTURES_CONTENT, "", 1, archive.count, pictures[0][1], 0, notes)
        left_out = [
            LeftOutFile(entry.name, entry.error.message)
            for entry in archive.examined
            if entry.error is not None
        ]
        return FileRecord(
            "",
            FileKind.FRAMES if len(sizes) == 1 else FileKind.PICTURES,
            "zip",
            archive.count,
            pictures[0][1],
            path.stat().st_size,
            time.time(),
            contents=list_contents([content] if content.notes else []),
            left_out=list_left_out(left_out),
            frame_index=FrameIndex(left_out_entries=tuple(archive.left_out)),
        )


def describe_names(archive: PictureArchive) -> list[str]:
    """Return a sentence about names in another encoding than the zip says."""
    if not archive.wrong_names:
        return []
    return [f"{archive.wrong_names} names are not UTF-8, as the zip says: they may look wrong."]


def describe_pages(archive: PictureArchive) -> list[str]:
    """Return a sentence about the files of several pictures, of which only the first one is taken."""
    several = [entry for entry in archive.examined if entry.error is None and entry.pages > 1]
    if not several:
        return []
    first = several[0]
    return [
        f"Of {len(several)} files only the first picture is taken: {first.name[:80]!r} has {first.pages}."
        " Send such a file by itself."
    ]
