"""A DICOM upload, presented as a volume or as frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput, TooLarge, UnsupportedFormat
from segserve.files.dicom.dicom_entries import DicomEntries
from segserve.files.dicom.group_series import Series, choose_default, group_series
from segserve.files.dicom.image_file import Frame
from segserve.files.dicom.read_header import read_texts
from segserve.files.dicom.scan_files import ScannedFiles, scan_files
from segserve.files.dicom.source_instances import (
    ATTRIBUTES,
    MAX_UID_CHARS,
    SourceSeries,
    SourceSlice,
)
from segserve.files.dicom.stored_frames import (
    StoredFrames,
    colours_to_8_bits,
    damaged_error,
    decoding_bytes,
    is_encapsulated,
)
from segserve.files.file_contents import choose_series, choose_time, name_some
from segserve.files.volume_geometry import VolumeGeometry
from segserve.images.read_image import to_rgb
from segserve.sandbox.confine import allow_memory
from segserve.types import FileContent, FileKind, FileLimits, FileOptions, LeftOutFile, Size, UInt8

# The voxels are held here, and by the service to which they are handed over.
COPIES = 2
# Frames, evenly spread, whose extremes are black and white where the header has no window.
SAMPLED_FRAMES = 16


@dataclass(frozen=True)
class TakenSeries:
    """The series that was taken of an upload. frames: of the point in time that was taken."""

    series: Series
    number: int
    time: int

    @property
    def frames(self) -> list[Frame]:
        return self.series.times[self.time]


class DicomFile:
    """`DicomFile` scans an upload, and takes a series and a point in time of it. Close it.

    Raises BadInput, TooLarge, UnsupportedFormat, MemoryError.
    """

    def __init__(self, path: Path, limits: FileLimits, options: FileOptions) -> None:
        self._limits = limits
        self._entries = DicomEntries(path, limits.max_mb)
        try:
            self._scanned = scan_files(self._entries)
            self.series = group_series(self._scanned.frames)
            self.taken = self._take(options)
            self.stored = StoredFrames(self._entries)
        except BaseException:
            self._entries.close()
            raise

    def _take(self, options: FileOptions) -> TakenSeries:
        if not self.series:
            raise no_image_error(self._entries, self._scanned)
        names = [series.name for series in self.series]
        number = choose_series(names, options.series, choose_default(self.series))
        taken = self.series[number]
        self._refuse_damaged(taken)
        if taken.problem:
            others = f" Or take another series by 'series': {name_some(names)}." if len(names) > 1 else ""
            raise BadInput(
                f"The series is no volume. {taken.problem}",
                field="file",
                remedy=f"Export the series again, complete.{others}",
            )
        return TakenSeries(taken, number, choose_time(len(taken.times), options.time))

    def _refuse_damaged(self, taken: Series) -> None:
        """Raise BadInput where a damaged file may belong to the series; others are left out."""
        names = [frame.file.name for frame in taken.times[0]]
        for damaged in self._scanned.damaged:
            if damaged.series_uid == taken.first.file.series_uid or (
                not damaged.series_uid and damaged.lies_beside(names)
            ):
                raise BadInput(
                    damaged.reason,
                    field="file",
                    remedy="Copy it again from its source, or leave it out if it does not belong to the series.",
                )

    @property
    def kind(self) -> FileKind:
        series = self.taken.series
        if series.is_volume:
            return FileKind.VOLUME
        return FileKind.VIDEO if series.count > 1 and self.fps is not None else FileKind.FRAMES

    @property
    def fps(self) -> float | None:
        file = self.taken.series.first.file
        is_loop = file.frame_time_ms is not None and file.pixels.frames > 1
        return 1000 / file.frame_time_ms if is_loop and file.frame_time_ms else None

    @property
    def contents(self) -> list[FileContent]:
        return [
            FileContent(
                series=series.name,
                description=series.description,
                times=len(series.times),
                count=series.count,
                size=Size(*series.first.size),
                taken_time=self.taken.time if number == self.taken.number else None,
                notes=tuple(describe_series(series)),
            )
            for number, series in enumerate(self.series)
        ]

    @property
    def left_out(self) -> list[LeftOutFile]:
        damaged = [LeftOutFile(file.name, "It is damaged.") for file in self._scanned.damaged]
        return damaged + self._scanned.left_out

    def source_series(self) -> SourceSeries:
        """Return the instances that the frames came from, in their order."""
        first = self.taken.frames[0].file
        slices = (
            SourceSlice(
                sop_class_uid=frame.file.sop_class_uid[:MAX_UID_CHARS],
                sop_instance_uid=frame.file.sop_instance_uid[:MAX_UID_CHARS],
                frame_number=frame.index + 1 if frame.file.pixels.frames > 1 else None,
                position=frame.position,
                tile=frame.tile,
            )
            for frame in self.taken.frames
        )
        with self._entries.open(first.entry) as stream:
            attributes = read_texts(stream, ATTRIBUTES)
        return SourceSeries(
            study_uid=first.study_uid[:MAX_UID_CHARS],
            series_uid=first.series_uid[:MAX_UID_CHARS],
            frame_of_reference_uid=first.frame_of_reference_uid[:MAX_UID_CHARS],
            attributes=attributes,
            slices=tuple(slices),
        )

    def check_complete(self) -> None:
        """Read all that a job reads: every compressed frame is decoded. Raises BadInput, MemoryError.

        Of uncompressed frames the first and the last of a file are: the others are as long, and are there.
        """
        # Frames of one file one after the other: each file is unpacked once.
        for frame in sorted(self.taken.frames, key=lambda frame: (frame.file.entry, frame.index)):
            pixels = frame.file.pixels
            if is_encapsulated(pixels) or frame.index in (0, pixels.frames - 1):
                self.stored.read(frame)

    def close(self) -> None:
        self.stored.close()
        self._entries.close()


def describe_series(series: Series) -> list[str]:
    notes = ["It is a localizer."] if series.is_localizer else []
    return notes + ([series.problem] if series.problem else []) + series.notes


def no_image_error(entries: DicomEntries, scanned: ScannedFiles) -> BadInput:
    if scanned.damaged:
        return BadInput(scanned.damaged[0].reason, field="file", remedy="Copy it again from its source.")
    reasons = {file.reason: None for file in scanned.left_out if file.reason != "It is not DICOM."}
    where = "There is no DICOM image in the zip." if entries.name(0) else "The DICOM file is no image."
    return UnsupportedFormat(
        " ".join([where, *list(reasons)[:3]]), field="file", remedy="Send the images of a series."
    )


class DicomVolume:
    """`DicomVolume` reads the voxels of the series that was taken of an upload. It closes the file.

    Voxels are the modality's values, such as Hounsfield units, each slice with its own rescale; those of MONOCHROME1
    are inverted, so that bright is bright. window: (low, high), as a viewer shows the middle slice, or None.
    Raises BadInput, TooLarge, UnsupportedFormat, MemoryError.
    """

    def __init__(self, file: DicomFile, limits: FileLimits) -> None:
        self.file = file
        try:
            series = self.file.taken.series
            if series.geometry is None:
                raise BadInput(
                    "The series has frames, not a volume.",
                    field="file",
                    remedy="Send it as a file of its own.",
                )
            self.geometry: VolumeGeometry = series.geometry
            voxels = int(np.prod(self.geometry.size, dtype=object))
            if voxels > limits.max_voxels:
                raise TooLarge(
                    f"The series has {voxels} voxels; the limit is {limits.max_voxels}.",
                    field="file",
                    remedy="Send a part of it.",
                )
        except BaseException:
            self.file.close()
            raise

    @cached_property
    def _range(self) -> tuple[float, float]:
        """Return the range that the values may have, by the headers."""
        ranges = [modality_range(frame) for frame in self.file.taken.frames]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    @property
    def window(self) -> tuple[float, float] | None:
        frames = self.file.taken.frames
        shading = frames[len(frames) // 2].shading
        if (window := shading.window) is None or not shading.is_inverted:
            return window
        low, high = self._range
        return low + high - window[1], low + high - window[0]

    def check_complete(self) -> None:
        self.file.check_complete()

    def claim_memory(self) -> None:
        """Let this process take what `voxels` needs. Raises TooLarge, Busy."""
        frames = self.file.taken.frames
        voxel_bytes = (
            int(np.prod(self.geometry.size, dtype=object)) * choose_dtype(frames, *self._range).itemsize
        )
        allow_memory(COPIES * voxel_bytes + decoding_bytes(frames[0].file.pixels))

    def voxels(self) -> NDArray[Any]:
        """Return [slices, rows, columns]. Raises BadInput, and MemoryError."""
        frames = self.file.taken.frames
        low, high = self._range
        dtype = choose_dtype(frames, low, high)
        shape = self.geometry.size[::-1]
        self.claim_memory()
        voxels = np.empty(shape, dtype)
        for index in sorted(range(len(frames)), key=lambda i: (frames[i].file.entry, frames[i].index)):
            frame = frames[index]
            values = frame.shading.to_modality(self.file.stored.read(frame), dtype)
            if frame.shading.is_inverted:
                values = np.asarray(low + high, dtype) - values
            voxels[index] = values
        return voxels

    def close(self) -> None:
        self.file.close()


def modality_range(frame: Frame) -> tuple[float, float]:
    """Return the range that the modality's values of a frame may have."""
    pixels = frame.file.pixels
    if pixels.keyword != "PixelData":
        return 0.0, 0.0
    bits = pixels.bits_stored
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if pixels.is_signed else (0, (1 << bits) - 1)
    return frame.shading.modality_range(low, high)


def choose_dtype(frames: Sequence[Frame], low: float, high: float) -> np.dtype[Any]:
    """Return the smallest dtype that holds the values exactly; float32 where they are not whole numbers."""
    keywords = {frame.file.pixels.keyword for frame in frames}
    if "DoubleFloatPixelData" in keywords:
        return np.dtype(np.float64)
    if keywords != {"PixelData"} or not all(frame.shading.has_whole_numbers for frame in frames):
        return np.dtype(np.float32)
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float64)


class DicomFrames:
    """`DicomFrames` are the frames of a series that is no volume: colours, and cine loops. They close the file.

    Colours are RGB. Grayscale is shown as a viewer shows it. Raises BadInput, TooLarge, UnsupportedFormat.
    """

    def __init__(self, file: DicomFile, limits: FileLimits) -> None:
        self.file = file
        frames = self.file.taken.frames
        self.count, self.size = len(frames), Size(*frames[0].size)
        if self.size.height * self.size.width > limits.max_frame_pixels:
            self.file.close()
            raise TooLarge(
                f"Frames are {self.size.width} x {self.size.height}; the limit is {limits.max_frame_pixels} pixels.",
                field="file",
                remedy="Scale them down.",
            )

    @cached_property
    def _limits(self) -> tuple[float, float]:
        """Return the values that become black and white where the header has no window: 8 bits as they are."""
        frames = self.file.taken.frames
        pixels = frames[0].file.pixels
        if pixels.bits_stored <= 8 and not pixels.is_signed and frames[0].shading.is_identity:
            return 0.0, float((1 << pixels.bits_stored) - 1)
        lows, highs = [], []
        for index in np.unique(np.linspace(0, self.count - 1, min(self.count, SAMPLED_FRAMES)).astype(int)):
            values = frames[index].shading.to_modality(self.file.stored.read(frames[index]), np.float64)
            lows.append(float(values.min()))
            highs.append(float(values.max()))
        return min(lows), max(highs)

    def read(self, index: int) -> UInt8:
        """Return frame `index` from 0, RGB [H, W, 3]. Raises BadInput."""
        frames = self.file.taken.frames
        if not 0 <= index < self.count:
            raise damaged_error("The file", f"It has no frame {index}.")
        frame = frames[index]
        values = self.file.stored.read(frame)
        if values.ndim == 3:
            return colours_to_8_bits(values, frame)
        limits = self._limits if frame.shading.window is None else (0.0, 1.0)
        shades = frame.shading.to_shades(self.file.stored.read(frame), limits)
        return to_rgb(shades[:, :, None])

    def close(self) -> None:
        self.file.close()
