"""Read a DICOM SEG, in the sandboxed process: its segments on each slice where they are."""

import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from segserve.errors import BadInput, TooLarge
from segserve.files.dicom.dicom_entries import DicomEntries
from segserve.files.dicom.functional_groups import number, text
from segserve.files.dicom.image_file import KEY_NAMES, Frame
from segserve.files.dicom.scan_files import scan_files
from segserve.files.dicom.segment_planes import (
    MAX_LABEL_CHARS,
    MAX_PLANES,
    MAX_SEGMENT,
    SegmentPlane,
    SegmentPlanes,
)
from segserve.files.dicom.stored_frames import StoredFrames, decoding_bytes
from segserve.sandbox.confine import allow_memory
from segserve.types import FileLimits, UInt8

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"  # a frame for each segment
LABEL_MAP_SEGMENTATION = (
    "1.2.840.10008.5.1.4.1.1.66.7"  # a frame of all segments: its values are their numbers
)
SEGMENT_KEY = KEY_NAMES.index("segment")
# Values of a fractional SEG are segments from this part of the maximum on.
MIN_FRACTION = 0.5
BITS_OF_A_BYTE = 8


def read_segments(path: Path, limits: FileLimits) -> tuple[SegmentPlanes, UInt8]:
    """Return the places of all masks, and the masks packed as `SegmentPlanes.packed_shape` says.

    Raises BadInput where a file is no SEG, or does not say where it lies; TooLarge, UnsupportedFormat, MemoryError.
    """
    with closing(DicomEntries(path, limits.max_mb)) as entries:
        scanned = scan_files(entries)
        if scanned.damaged:
            raise BadInput(scanned.damaged[0].reason, field="file", remedy="Copy it again from its source.")
        frames = [frame for frame in scanned.frames if is_segmentation(frame)]
        if not frames or len(frames) != len(scanned.frames):
            raise BadInput(
                "The DICOM file is no segmentation.",
                field="file",
                remedy="Send a DICOM SEG, or labels as NIfTI, NRRD or MetaImage.",
            )
        if len({frame.size for frame in frames}) > 1 or len({frame.file.entry for frame in frames}) > 1:
            raise BadInput("There are several segmentations.", field="file", remedy="Send one at a time.")
        threshold, names = read_attributes(entries, frames[0])
        with closing(StoredFrames(entries)) as stored:
            return read_masks(stored, frames, threshold, names, limits)


def is_segmentation(frame: Frame) -> bool:
    return frame.file.sop_class_uid in (SEGMENTATION, LABEL_MAP_SEGMENTATION)


def read_attributes(entries: DicomEntries, frame: Frame) -> tuple[float, dict[int, str]]:
    """Return the value from which on a pixel is of its segment, and the labels of segments by number."""
    keywords = ["SegmentationType", "MaximumFractionalValue", "SegmentSequence"]
    with entries.open(frame.file.entry) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(keywords))
        is_fractional = text(data_set, "SegmentationType") == "FRACTIONAL"
        maximum = number(data_set, "MaximumFractionalValue") or 255.0
        names = dict[int, str]()
        for item in data_set.get("SegmentSequence", None) or []:
            segment, label = number(item, "SegmentNumber"), text(item, "SegmentLabel").strip()
            if segment is not None and label:
                names[int(segment)] = label[:MAX_LABEL_CHARS]
    return MIN_FRACTION * maximum if is_fractional else 1.0, names


def read_masks(
    stored: StoredFrames, frames: list[Frame], threshold: float, names: dict[int, str], limits: FileLimits
) -> tuple[SegmentPlanes, UInt8]:
    rows, columns = frames[0].size
    row_bytes = -(-columns // BITS_OF_A_BYTE)
    max_planes = min(MAX_PLANES, max(1, BITS_OF_A_BYTE * limits.max_voxels // (rows * columns)))
    planes, masks, allowed = list[SegmentPlane](), list[UInt8](), 0
    for frame in frames:
        for segment, mask in split_segments(frame, stored.read(frame), threshold):
            if len(planes) == max_planes:
                raise TooLarge(
                    f"The segmentation has over {max_planes} masks.",
                    field="file",
                    remedy="Send fewer segments at a time, or a label volume as NIfTI.",
                )
            if len(planes) == allowed:  # a list of masks, and one array of all
                allowed = max(len(frames), 2 * allowed)
                allow_memory(decoding_bytes(frame.file.pixels) + 2 * allowed * rows * row_bytes)
            planes.append(place_plane(frame, segment))
            masks.append(np.packbits(mask, axis=1))
    if not planes:
        raise BadInput("The segmentation is empty.", field="file", remedy="Send one with segments.")
    numbers = {plane.segment for plane in planes}
    return (
        SegmentPlanes(rows, columns, tuple(planes), {n: names[n] for n in sorted(numbers & names.keys())}),
        np.stack(masks),
    )


def split_segments(
    frame: Frame, values: NDArray[Any], threshold: float
) -> list[tuple[int, NDArray[np.bool_]]]:
    """Return the number and the mask of each segment on a frame, [rows, columns]. Raises BadInput."""
    if frame.file.sop_class_uid == LABEL_MAP_SEGMENTATION:
        numbers = np.unique(values)
        return [(check_segment(int(number)), values == number) for number in numbers[numbers > 0]]
    key = frame.keys[SEGMENT_KEY]
    mask = values >= threshold
    return [(check_segment(int(key[0]) if key else 0), mask)] if mask.any() else []


def check_segment(segment: int) -> int:
    if not 0 < segment <= MAX_SEGMENT:
        raise BadInput(
            "A frame of the segmentation does not say which segment it is of.",
            field="file",
            remedy="Export it again.",
        )
    return segment


def place_plane(frame: Frame, segment: int) -> SegmentPlane:
    if frame.position is None or frame.orientation is None or frame.pixel_spacing is None:
        raise BadInput(
            "The segmentation does not say where its slices lie.",
            field="file",
            remedy="Export it again, with the positions of its slices.",
        )
    return SegmentPlane(segment, frame.position, frame.orientation, frame.pixel_spacing)
