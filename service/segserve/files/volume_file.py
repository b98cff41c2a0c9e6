"""Read a volume of any format but DICOM: its header, and the voxels of one point in time."""

from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segserve.errors import TooLarge
from segserve.files.file_contents import choose_series, choose_time, list_contents
from segserve.files.volume_headers.metaimage import parse_metaimage
from segserve.files.volume_headers.mgh import DATA_OFFSET, parse_mgh
from segserve.files.volume_headers.nifti import NIFTI2_BYTES, parse_nifti
from segserve.files.volume_headers.nrrd import parse_nrrd
from segserve.files.volume_headers.packed_array import parse_packed_array
from segserve.files.volume_headers.text_header import separate_data_error
from segserve.files.volume_headers.volume_header import COLOUR, SPACE, TIME, VolumeHeader
from segserve.files.voxel_data import check_complete, read_head, read_values
from segserve.sandbox.confine import allow_memory
from segserve.types import FileContent, FileLimits, FileOptions, LeftOut

# Voxels are held as stored and as the values that they mean; then they are held here and by the service.
COPIES = 2
MAX_BYTES_PER_VALUE = COPIES * 8
# Whole numbers up to this size are exact in float32.
MAX_EXACT_ITEMSIZE = 2


def parse_volume_header(file: BinaryIO, file_format: str) -> VolumeHeader:
    """Return what the header of a file says. file_format: one of `volume_format.SINGLE_FILE_FORMATS`.

    Raises BadInput, MissingDependency.
    """
    match file_format:
        case "nrrd":
            return parse_nrrd(file)
        case "metaimage":
            return parse_metaimage(file)
        case "packed_array":
            return parse_packed_array(file)
    encoding = "gzip" if file_format in ("nifti.gz", "mgz") else "raw"
    if file_format in ("mgh", "mgz"):
        return parse_mgh(read_head(file, encoding, DATA_OFFSET), encoding)
    return parse_nifti(read_head(file, encoding, NIFTI2_BYTES), encoding)


class VolumeFile:
    """`VolumeFile` reads one point in time of a volume.

    header: of the volume.
    data_path: the file with the voxels.
    max_voxels: limit for the values of one point in time.
    time: from 0; None: the first.
    folder: is deleted when the volume is closed.
    contents, left_out: for the record of the file.
    window: that the file says to show; these formats say none.
    Raises BadInput, TooLarge.
    """

    window: tuple[float, float] | None = None

    def __init__(
        self,
        header: VolumeHeader,
        data_path: Path,
        max_voxels: int,
        time: int | None,
        folder: TemporaryDirectory[str] | None = None,
    ) -> None:
        self.header, self.geometry, self.times = header, header.geometry, header.times
        self.taken_time = choose_time(self.times, time)
        self.contents: tuple[FileContent, ...] = ()
        self.left_out = LeftOut()
        # Values of several points in time are read together where the time is the fastest axis.
        self._is_time_last = (
            TIME not in header.roles or prod(header.axes[header.roles.index(TIME) + 1 :]) == 1
        )
        self._values = header.values_per_time if self._is_time_last else prod(header.axes)
        if self._values > max_voxels:
            raise TooLarge(
                f"The volume has {self._values} voxels; the limit is {max_voxels}.",
                field="file",
                remedy="Crop it.",
            )
        self._file: BinaryIO = data_path.open("rb")
        self._folder = folder

    @property
    def has_colour(self) -> bool:
        return self.header.has_colour

    def check_complete(self) -> None:
        """Check that the voxels of all points in time are in the file, which is read for that. Raises BadInput."""
        check_complete(self._file, self.header.data)

    def claim_memory(self) -> None:
        """Let this process take what the voxels need. Called for an upload too, so that none is stored that no job
        could read. Raises TooLarge, Busy."""
        value_bytes = max(self.header.data.dtype.itemsize, self._dtype.itemsize)
        allow_memory(MAX_BYTES_PER_VALUE * self._values, used=COPIES * value_bytes * self._values)

    @property
    def _dtype(self) -> np.dtype[Any]:
        """The type of the values that the stored ones mean: float32 where that holds scaled ones, else float64."""
        stored = self.header.data.dtype
        if not self.header.is_scaled or self.has_colour:
            return stored.newbyteorder("=")
        fits = stored.itemsize <= MAX_EXACT_ITEMSIZE or stored == np.float32
        return np.dtype(np.float32 if fits else np.float64)

    def voxels(self) -> NDArray[Any]:
        """Return [slices, rows, columns], and [..., 3] of colours, in the file's own type or scaled by its header.

        Raises BadInput, and MemoryError.
        """
        header = self.header
        self.claim_memory()
        first = self.taken_time * self._values if self._is_time_last else 0
        values = read_values(self._file, header.data, first, self._values)
        axes = [
            1 if role == TIME and self._is_time_last else size
            for size, role in zip(header.axes, header.roles, strict=True)
        ]
        # The fastest axis is numpy's last one.
        array = values.reshape(axes[::-1]).transpose()
        if TIME in header.roles:
            array = array.take(0 if self._is_time_last else self.taken_time, header.roles.index(TIME))
        roles = [role for role in header.roles if role != TIME]
        spatial = [axis for axis, role in enumerate(roles) if role == SPACE]
        order = [*reversed(spatial), *([roles.index(COLOUR)] if COLOUR in roles else [])]
        array = np.ascontiguousarray(array.transpose(order))
        if COLOUR in roles:
            return array[..., :3]
        if header.is_scaled:
            array = array.astype(self._dtype)
            np.multiply(array, header.slope, out=array)
            np.add(array, header.intercept, out=array)
        return array

    def close(self) -> None:
        self._file.close()
        if self._folder is not None:
            self._folder.cleanup()


def open_volume_file(path: Path, file_format: str, limits: FileLimits, options: FileOptions) -> VolumeFile:
    """Open a volume whose header and voxels are in one file. Raises BadInput, TooLarge, MissingDependency."""
    choose_series([""], options.series, 0)
    with path.open("rb") as file:
        header = parse_volume_header(file, file_format)
    if header.data_file is not None:
        raise separate_data_error(header.data_file)
    volume = VolumeFile(header, path, limits.max_voxels, options.time)
    if header.times > 1 or header.notes:
        volume.contents = list_contents([describe_content("", header, volume.taken_time)])
    return volume


def describe_content(name: str, header: VolumeHeader, taken_time: int | None) -> FileContent:
    """Return what the record of a file says about one volume. taken_time: None where another one is taken."""
    return FileContent(
        name,
        "",
        header.times,
        header.geometry.slices,
        header.geometry.slice_size,
        taken_time,
        header.notes,
    )
