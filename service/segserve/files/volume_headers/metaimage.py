"""The header of MetaImage (itk.org/Wiki/MetaIO/Documentation)."""

import re
from typing import BinaryIO

import numpy as np

from segserve.errors import BadInput
from segserve.files.volume_geometry import VolumeGeometry, create_geometry
from segserve.files.volume_headers.text_header import read_fields
from segserve.files.volume_headers.volume_header import (
    COLOUR,
    COLOUR_CHANNELS,
    SPACE,
    TIME,
    VolumeHeader,
    spatial_size,
    wrong_axes_error,
)
from segserve.files.voxel_data import VoxelData, unclear_header_error

# A header must end within this many bytes.
MAX_HEADER_BYTES = 65_536
# LONG has 4 bytes in files, on every machine.
DTYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "long": "i4",
          "ulong": "u4", "long_long": "i8", "ulong_long": "u8", "float": "f4", "double": "f8"}  # fmt: skip
TRUE = ("t", "1", "y")
LOCAL = "LOCAL"
# Names of one field, the first one is today's.
MATRIX_NAMES = ("transformmatrix", "rotation", "orientation")
ORIGIN_NAMES = ("offset", "position", "origin")
SPACING_NAMES = ("elementspacing", "elementsize")


def is_metaimage_head(head: bytes) -> bool:
    """Return whether a file begins as MetaImage does."""
    return (
        re.match(rb"\s*\w+[ \t]*=", head) is not None and re.search(rb"(?m)^\s*NDims\s*=", head) is not None
    )


def parse_metaimage(file: BinaryIO) -> VolumeHeader:
    """Return what the header at the beginning of a file says. Raises BadInput."""
    file.seek(0)
    head = file.read(MAX_HEADER_BYTES)
    # It is the last line of a header.
    end = re.search(rb"(?im)^[ \t]*ElementDataFile[ \t]*=[^\r\n]*(\r?\n|\Z)", head)
    try:
        if end is None:
            raise ValueError
        fields = read_fields(head[: end.end()], b"=")
        data_file = fields["elementdatafile"]
        check_data_file(data_file)
        is_local = data_file.upper() == LOCAL
        axes, roles, dtype = find_axes(fields)
        data = find_voxels(fields, axes, dtype, end.end() if is_local else 0)
        geometry = find_geometry(fields, spatial_size(axes, roles))
    except (ValueError, KeyError, IndexError, OverflowError):
        raise unclear_header_error() from None
    notes = tuple(geometry.describe_shear())
    return VolumeHeader(data, axes, roles, geometry, data_file=None if is_local else data_file, notes=notes)


def check_data_file(name: str) -> None:
    """Raise BadInput where the voxels are in several files."""
    if name.upper().startswith("LIST") or "%" in name:
        raise BadInput(
            "The header names several files of voxels.",
            field="file",
            remedy="Save the volume as one file, .mha, or with one file of voxels.",
        )


def find_axes(fields: dict[str, str]) -> tuple[tuple[int, ...], tuple[str, ...], np.dtype[np.generic]]:
    """Return the sizes and roles of the axes, the fastest first, and the type of a value.

    Raises BadInput, ValueError, KeyError.
    """
    sizes = [int(side) for side in fields["dimsize"].split()]
    if len(sizes) != int(fields["ndims"]):
        raise ValueError
    dtype = np.dtype(DTYPES[fields["elementtype"].lower().removeprefix("met_").removesuffix("_array")])
    channels = int(fields.get("elementnumberofchannels", "1"))
    sizes += [1] * (3 - len(sizes))
    if len(sizes) > 4 or min(sizes) < 1 or channels < 1:
        raise wrong_axes_error([*sizes, channels])
    roles = [SPACE, SPACE, SPACE, TIME][: len(sizes)]
    if channels > 1:
        if channels not in COLOUR_CHANNELS or dtype.kind != "u" or dtype.itemsize > 2:
            raise wrong_axes_error([channels, *sizes])
        sizes, roles = [channels, *sizes], [COLOUR, *roles]
    return tuple(sizes), tuple(roles), dtype


def find_voxels(
    fields: dict[str, str], axes: tuple[int, ...], dtype: np.dtype[np.generic], start: int
) -> VoxelData:
    """Return where the voxels are. start: offset at which they begin if nothing else is said.

    Raises ValueError.
    """
    is_big = fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb", "False"))
    if dtype.itemsize > 1:
        dtype = dtype.newbyteorder(">" if is_true(is_big) else "<")
    header_bytes = int(fields.get("headersize", "0"))
    if header_bytes < -1:
        raise ValueError
    count, encoding, end = int(np.prod(axes, dtype=object)), "raw", None
    if is_true(fields.get("compresseddata", "False")):
        encoding = "deflate"
        if (packed_bytes := int(fields.get("compresseddatasize", "0"))) > 0:
            end = max(start, header_bytes) + packed_bytes
    elif not is_true(fields.get("binarydata", "True")):
        encoding = "text"
    if header_bytes == -1 and encoding != "raw":
        raise ValueError
    start = max(start, header_bytes)
    return VoxelData(start, end, 0, count, dtype, encoding, is_at_end=header_bytes == -1)


def is_true(text: str) -> bool:
    return text[:1].lower() in TRUE


def find_geometry(fields: dict[str, str], size: tuple[int, int, int]) -> VolumeGeometry:
    """Return the geometry. The rows of the file's matrix are the directions of the axes.

    Raises BadInput, ValueError.
    """
    count = int(fields["ndims"])
    spacing, origin, matrix = np.ones(3), np.zeros(3), np.eye(3)
    used = min(count, 3)
    for names, target in ((SPACING_NAMES, spacing), (ORIGIN_NAMES, origin)):
        if (numbers := find_numbers(fields, names, count)) is not None:
            target[:used] = numbers[:used]
    rows = find_numbers(fields, MATRIX_NAMES, count * count)
    if rows is not None:
        matrix[:used, :used] = np.reshape(rows, (count, count))[:used, :used]
    affine = np.eye(4)
    affine[:3, :3] = matrix.T * spacing
    affine[:3, 3] = origin
    is_placed = rows is not None or any(name in fields for name in ORIGIN_NAMES)
    return create_geometry(size, affine, is_placed=is_placed)


def find_numbers(fields: dict[str, str], names: tuple[str, ...], count: int) -> list[float] | None:
    """Return the numbers of the first field that is there, None if none is. Raises ValueError."""
    for name in names:
        if name in fields:
            numbers = [float(part) for part in fields[name].split()]
            if len(numbers) != count:
                raise ValueError
            return numbers
    return None
