"""The header of NRRD (teem.sourceforge.net/nrrd/format.html)."""

import re
from io import BytesIO
from typing import BinaryIO, Literal

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
from segserve.files.voxel_data import CHUNK_BYTES, VoxelData, unclear_header_error

MAGIC = b"NRRD"
# A header must end within this many bytes.
MAX_HEADER_BYTES = 65_536
# By the names of the format, shortened.
DTYPES = {"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
          "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "longlong": "i8", "int64": "i8",
          "ulonglong": "u8", "uint64": "u8", "float": "f4", "double": "f8"}  # fmt: skip
ENCODINGS = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2", "txt": "text",
             "text": "text", "ascii": "text", "hex": "hex"}  # fmt: skip
BYTE_ORDERS: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">"}
# Signs that turn the axes of a space into ITK's: to the left, back and top of a patient.
SPACE_SIGNS = {
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "left-posterior-superior": (1, 1, 1),
    "scanner-xyz": (1, 1, 1),
    "3d-right-handed": (1, 1, 1),
}
SHORT_SPACES = {
    "ras": "right-anterior-superior",
    "las": "left-anterior-superior",
    "lps": "left-posterior-superior",
}
MM_BY_UNIT = {"mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "µm": 0.001,
              "micron": 0.001, "microns": 0.001, "micrometer": 0.001, "micrometers": 0.001, "nm": 1e-6}  # fmt: skip
SPACE_KINDS = {"domain", "space"}
COLOUR_KINDS = {"rgb-color", "rgba-color", "3-color", "4-color", "vector", "3-vector", "4-vector"}
TIME_KINDS = {"time", "list"}


def parse_nrrd(file: BinaryIO) -> VolumeHeader:
    """Return what the header at the beginning of a file says. Raises BadInput."""
    file.seek(0)
    head = file.read(MAX_HEADER_BYTES)
    # Without a blank line the header is all of a detached file.
    end = re.search(rb"\r?\n\r?\n", head)
    try:
        fields = read_fields(head if end is None else head[: end.start()], b":")
        data_file = fields.get("datafile")
        if end is None and (data_file is None or len(head) == MAX_HEADER_BYTES):
            raise ValueError
        after = len(head) if end is None else end.end()
        data = find_voxels(fields, file, after if data_file is None else None)
        axes = tuple(int(side) for side in fields["sizes"].split())
        directions = parse_directions(fields, len(axes))
        roles = find_roles(fields, axes, directions, data.dtype)
        return build_header(fields, data, axes, roles, directions, data_file)
    except (ValueError, KeyError, IndexError, OverflowError):
        raise unclear_header_error() from None


def find_voxels(fields: dict[str, str], file: BinaryIO, after: int | None) -> VoxelData:
    """Return where the voxels are. after: offset of the header's end; None: they are in another file, from its start.

    Raises ValueError, KeyError.
    """
    count = int(np.prod([int(side) for side in fields["sizes"].split()], dtype=object))
    dtype = np.dtype(DTYPES[shorten_type(fields["type"])])
    encoding = ENCODINGS[fields["encoding"].lower()]
    if dtype.itemsize > 1 and encoding != "text":
        dtype = dtype.newbyteorder(BYTE_ORDERS[fields["endian"].lower()])
    lines, skip = int(fields.get("lineskip", "0")), int(fields.get("byteskip", "0"))
    if count < 1 or lines < 0 or skip < -1 or (skip == -1 and encoding != "raw"):
        raise ValueError
    if after is None:
        if lines:
            raise ValueError  # the lines are in a file that is not at hand here
        start = 0
    else:
        file.seek(after)
        for _ in range(lines):
            if not file.readline(CHUNK_BYTES).endswith(b"\n"):
                raise ValueError
        start = file.tell()
    # -1: the voxels are the last bytes.
    return VoxelData(start, None, max(0, skip), count, dtype, encoding, is_at_end=skip == -1)


def shorten_type(name: str) -> str:
    """Return the key of DTYPES for one of the format's names: "unsigned short int", "ushort", "uint16_t"."""
    short = re.sub(r"^signed ", "", name.lower().strip()).removesuffix("_t")
    short = re.sub(r"^unsigned ", "u", short)
    return re.sub(r"(?<=short|.long) int$", "", short).replace(" ", "")


def parse_directions(fields: dict[str, str], axes: int) -> list[tuple[float, ...] | None]:
    """Return the direction of each axis in the file's space, None for an axis that has none. Raises ValueError."""
    if (text := fields.get("spacedirections")) is not None:
        directions = [parse_vector(part) for part in re.findall(r"none|\([^)]*\)", text.lower())]
    elif (text := fields.get("spacings")) is not None:
        lengths = [float(part) for part in text.split()]
        directions = [None] * axes
        spatial = [axis for axis, length in enumerate(lengths) if np.isfinite(length) and length != 0][:3]
        for number, axis in enumerate(spatial):
            directions[axis] = tuple(abs(lengths[axis]) if at == number else 0.0 for at in range(3))
    else:
        return [None] * axes
    if len(directions) != axes:
        raise ValueError
    return directions


def parse_vector(text: str) -> tuple[float, ...] | None:
    """Return the numbers of "(1,0,0)"; None for "none". Raises ValueError."""
    return None if text == "none" else tuple(float(part) for part in text.strip("() ").split(","))


def find_roles(
    fields: dict[str, str],
    axes: tuple[int, ...],
    directions: list[tuple[float, ...] | None],
    dtype: np.dtype[np.generic],
) -> tuple[str, ...]:
    """Return the roles of the axes: by their directions, else by their kinds, else by their order. Raises BadInput."""
    kinds = fields.get("kinds", "").lower().split()
    kinds = kinds if len(kinds) == len(axes) else ["???"] * len(axes)
    has_direction = [direction is not None for direction in directions]
    if sum(has_direction) == 3 and ("spacedirections" in fields or len(axes) == 3):
        spatial = has_direction
    elif sum(kind in SPACE_KINDS for kind in kinds) == 3:
        spatial = [kind in SPACE_KINDS for kind in kinds]
    else:  # nothing is said: a short first axis of a small type is a colour, a last one the time
        first = (
            len(axes) == 4
            and axes[0] in COLOUR_CHANNELS
            and (kinds[0] in COLOUR_KINDS or dtype.itemsize == 1)
        )
        spatial = [at in range(int(first), int(first) + 3) for at in range(len(axes))]
    roles = []
    for size, kind, is_spatial in zip(axes, kinds, spatial, strict=True):
        is_colour = size in COLOUR_CHANNELS and dtype.kind == "u" and dtype.itemsize <= 2
        if is_spatial:
            roles.append(SPACE)
        elif kind not in TIME_KINDS and is_colour and (kind in COLOUR_KINDS or not roles):
            roles.append(COLOUR)
        elif kind in TIME_KINDS or kind not in COLOUR_KINDS:
            roles.append(TIME)
        else:
            raise wrong_axes_error(axes)
    return tuple(roles)


def build_header(
    fields: dict[str, str],
    data: VoxelData,
    axes: tuple[int, ...],
    roles: tuple[str, ...],
    directions: list[tuple[float, ...] | None],
    data_file: str | None,
) -> VolumeHeader:
    """Return what the fields say. Raises BadInput, ValueError."""
    size = spatial_size(axes, roles)
    geometry = find_geometry(fields, size, [directions[at] for at, role in enumerate(roles) if role == SPACE])
    if data_file is not None and (data_file.upper().startswith("LIST") or "%" in data_file):
        raise BadInput(
            "The header names several files of voxels.",
            field="file",
            remedy="Save the volume as one file, .nrrd, or with one file of voxels.",
        )
    return VolumeHeader(
        data, axes, roles, geometry, data_file=data_file, notes=tuple(geometry.describe_shear())
    )


def find_geometry(
    fields: dict[str, str], size: tuple[int, int, int], directions: list[tuple[float, ...] | None]
) -> VolumeGeometry:
    """Return the geometry in millimetres and ITK's axes. Raises BadInput, ValueError."""
    affine = np.eye(4)
    name = fields.get("space", "").lower().removesuffix("-time")
    name = SHORT_SPACES.get(name, name)
    signs = np.array(SPACE_SIGNS.get(name, (1, 1, 1)), np.float64)
    for axis, direction in enumerate(directions):
        if direction is not None:
            if len(direction) < 3:
                raise ValueError
            affine[:3, axis] = direction[:3]
    if (origin := parse_vector(fields.get("spaceorigin", "none"))) is not None:
        if len(origin) < 3:
            raise ValueError
        affine[:3, 3] = origin[:3]
    affine[:3] *= find_unit(fields)
    affine[:3] *= signs[:, None]
    return create_geometry(size, affine, is_placed="spacedirections" in fields)


def find_unit(fields: dict[str, str]) -> float:
    """Return how many millimetres the unit of the space is; units that are not known count as millimetres."""
    units = re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))
    return MM_BY_UNIT.get(units[0].strip().lower(), 1.0) if units else 1.0


def read_detached_head(head: bytes) -> VolumeHeader:
    """Return what a header says of which only the first bytes are at hand. Raises BadInput."""
    return parse_nrrd(BytesIO(head))
