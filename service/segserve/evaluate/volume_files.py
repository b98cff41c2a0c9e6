"""Pairs of scans and label volumes on this machine: read for prompts, scores and pictures.

Volume formats are read in sandboxed processes, as the service reads them. The labels of a stack may be a TIFF or .npy.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile

from segserve.errors import BadInput, SegserveError
from segserve.evaluate.ground_truth import MAX_PIXELS, FilePair, pair_by_name, read_npy
from segserve.evaluate.volume_scores import VolumeSpacing
from segserve.files.file_readers import READER_MODULE, FileReaders
from segserve.files.file_view import open_view, view_shape
from segserve.files.match_grid import match_grid
from segserve.files.volume_geometry import VolumeGeometry
from segserve.images.image_source import wrap_codec_errors
from segserve.sandbox.sandbox import Sandbox
from segserve.settings import Settings
from segserve.types import FileKind, FileRecord, UInt8, UInt16

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mgz", ".mgh")
SCAN_SUFFIXES = (*VOLUME_SUFFIXES, ".zip", ".tif", ".tiff")
LABEL_SUFFIXES = (*VOLUME_SUFFIXES, ".tif", ".tiff", ".npy")
MAX_LABEL = 65_535  # the largest object_id of a job


@dataclass(frozen=True)
class VolumeCase:
    """A scan and its labels, cut along one axis.

    labels: [N, H, W], 0 is background.
    spacing: in millimetres, from slice to slice, row to row and column to column; None where nobody knows it.
    """

    pair: FilePair
    record: FileRecord
    labels: UInt16
    spacing: VolumeSpacing | None


@contextmanager
def open_readers(settings: Settings) -> Iterator[FileReaders]:
    """Start the sandbox that reads volumes, while the block runs."""
    with ThreadPoolExecutor(1, "file") as executor:
        sandbox = Sandbox(READER_MODULE)
        try:
            yield FileReaders(
                sandbox,
                settings.file_limits,
                timeout_s=settings.reader_timeout_s,
                memory_mb=settings.reader_memory_mb,
                executor=executor,
            )
        finally:
            sandbox.close()


def pair_volumes(scans: Path, labels: Path) -> list[FilePair]:
    """Pair the files of two folders by name, sorted by name. Raises BadInput that names a file without a partner."""
    return pair_by_name(scans, SCAN_SUFFIXES, labels, LABEL_SUFFIXES)


def read_case(
    pair: FilePair, readers: FileReaders, axis: int, spacing: VolumeSpacing | None = None
) -> VolumeCase:
    """Read a scan's size and place, and its labels.

    axis: along which both are cut. spacing: counts instead of the scan's own; along the axes as stored.
    Labels whose axes run in another order or sense are turned to the scan's.
    Raises BadInput that names the file, also where the labels are on another grid.
    """
    with name_file(pair.path):
        record = readers.probe(pair.path, "")
        count, size = view_shape(record, axis)
    values, grid = read_label_volume(pair.truth, readers)
    if grid is not None and record.kind is FileKind.VOLUME:
        with name_file(pair.path), readers.open_volume(pair.path, record.format, record.options) as volume:
            scan_grid = volume.geometry
        with name_file(pair.truth):
            values = match_grid(values, grid, scan_grid, field=str(pair.truth))
    labels = np.moveaxis(values, axis, 0)
    if labels.shape != (count, size.height, size.width):
        raise BadInput(
            f"{pair.truth} is an array of {values.shape}, and {pair.path} has {count} slices of"
            f" {size.width} x {size.height}.",
            field=str(pair.truth),
            remedy="Save the labels on the scan's own grid, slice by slice.",
        )
    return VolumeCase(
        pair, record, to_labels(labels, pair.truth), move_spacing(spacing or record.spacing, axis)
    )


def move_spacing(spacing: VolumeSpacing | None, axis: int) -> VolumeSpacing | None:
    """Return the spacing (z, y, x) in the order of an array whose `axis` was moved to the front."""
    if spacing is None:
        return None
    others = [value for position, value in enumerate(spacing) if position != axis]
    return spacing[axis], others[0], others[1]


def read_label_volume(path: Path, readers: FileReaders) -> tuple[NDArray[Any], VolumeGeometry | None]:
    """Return (values [Z, Y, X], their place in space where the format has one). Raises BadInput that names the file."""
    with name_file(path):
        name = path.name.lower()
        if name.endswith((".tif", ".tiff")):
            return read_tiff_volume(path), None
        if name.endswith(".npy"):
            return check_axes(read_npy(path)), None
        record = readers.probe(path, "")
        if record.kind is not FileKind.VOLUME:
            raise BadInput("It is no volume.")
        with readers.open_volume(path, record.format, record.options) as volume:
            return volume.voxels(), volume.geometry


def read_tiff_volume(path: Path) -> NDArray[Any]:
    with wrap_codec_errors("TIFF"), TiffFile(path) as file:
        series = file.series[0]
        if series.size > MAX_PIXELS:
            raise BadInput(f"It is an array of {series.shape}.")
        return check_axes(series.asarray())


def check_axes(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values [Z, Y, X] without axes of length 1 before them. Raises BadInput for another array."""
    volume = (
        values.reshape(values.shape[-3:])
        if values.ndim > 3 and values.size == np.prod(values.shape[-3:])
        else values
    )
    if volume.ndim != 3:
        raise BadInput(f"It is an array of {values.shape}, not [slices, height, width].")
    return volume


def to_labels(volume: NDArray[Any], path: Path) -> UInt16:
    """Return the values [N, H, W] as labels. Raises BadInput where they are none."""
    for plane in volume:
        numbers = plane.astype(np.float64)
        if not (np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all()):
            raise BadInput(
                f"{path} has values that are not whole numbers.",
                field=str(path),
                remedy="Save it as labels, 0 for the background.",
            )
        if numbers.min() < 0 or numbers.max() > MAX_LABEL:
            raise BadInput(
                f"{path} has values that are not from 0 to {MAX_LABEL}.",
                field=str(path),
                remedy="Save it as labels, 0 for the background.",
            )
    return volume.astype(np.uint16)


def read_slices(
    case: VolumeCase, readers: FileReaders, axis: int, window: tuple[float, float] | None, indices: set[int]
) -> dict[int, UInt8]:
    """Return some slices of the scan by index, RGB [H, W, 3], as the model sees them. Raises BadInput."""
    with (
        name_file(case.pair.path),
        open_view(case.record, case.pair.path, readers, axis, window) as slices,
    ):
        return {index: slices.read(index) for index in sorted(indices)}


@contextmanager
def name_file(path: Path) -> Iterator[None]:
    """Add the file's name to an error of reading it."""
    try:
        yield
    except (SegserveError, OSError) as error:
        message, remedy = (
            (error.message, error.remedy)
            if isinstance(error, SegserveError)
            else (error.strerror or "it cannot be opened.", "")
        )
        raise BadInput(f"{path} cannot be read: {message}", field=str(path), remedy=remedy) from None
