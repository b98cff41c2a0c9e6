"""Siemens mosaics: the slices of one point in time as tiles of one image.

The number of tiles and the direction of the slices are in private elements. The position in the header is that of a
slice as large as the whole mosaic, around the same centre; it is corrected as nibabel and dcm2niix do.
"""

import math
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag

# NumberOfImagesInMosaic of newer software, and the CSA Image Header Info.
COUNT_TAG, CSA_TAG = Tag(0x0019, 0x100A), Tag(0x0029, 0x1010)
MOSAIC_TAGS = [COUNT_TAG, CSA_TAG]
MAX_TILES = 4096
MAX_CSA_ELEMENTS = 1000
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Mosaic:
    """`Mosaic` is the size of a tile, and of each tile in the order of slices (its position, its first pixel)."""

    size: tuple[int, int]
    tiles: list[tuple[Vector, tuple[int, int]]]


def read_mosaic(
    data_set: Dataset,
    size: tuple[int, int],
    position: Vector,
    orientation: Any,
    spacing: tuple[float, float],
    slice_spacing: float | None,
) -> Mosaic | None:
    """Return the tiles of a mosaic, or None where the header does not say what is needed."""
    csa = read_csa(private_bytes(data_set, CSA_TAG))
    count = 0
    for value in (private_value(data_set, COUNT_TAG), *csa.get("NumberOfImagesInMosaic", [])):
        with suppress(TypeError, ValueError):
            count = count or int(value)
    if not 1 < count <= MAX_TILES or not slice_spacing:
        return None
    side = math.ceil(math.sqrt(count))
    height, width = size[0] // side, size[1] // side
    if not height or not width or (height * side, width * side) != size:
        return None
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    with suppress(ValueError):
        stated = np.array([float(value) for value in csa.get("SliceNormalVector", [])[:3]])
        if stated.shape == (3,) and stated @ normal < 0:
            normal = -normal
    first = (
        np.array(position)
        + row * spacing[1] * (size[1] - width) / 2
        + column * spacing[0] * (size[0] - height) / 2
    )
    tiles = []
    for index in range(count):
        x, y, z = (first + normal * slice_spacing * index).tolist()
        tiles.append(((x, y, z), (index // side * height, index % side * width)))
    return Mosaic((height, width), tiles)


def private_value(data_set: Dataset, tag: Any) -> Any:
    """Return a private element as a number, whether its representation is known or not."""
    with suppress(Exception):
        value = data_set[tag].value
        return int.from_bytes(value[:2], "little") if isinstance(value, bytes) else value
    return None


def private_bytes(data_set: Dataset, tag: Any) -> bytes:
    with suppress(Exception):
        value = data_set[tag].value
        return value if isinstance(value, bytes) else b""
    return b""


def read_csa(data: bytes) -> dict[str, list[str]]:
    """Return the elements of a CSA header, version 1 or 2, by name. What is damaged is left out."""
    elements: dict[str, list[str]] = {}
    with suppress(struct.error, ValueError):
        at = 8 if data[:4] == b"SV10" else 0
        (count,) = struct.unpack_from("<I", data, at)
        at += 8
        first_items: int | None = None
        for _ in range(min(count, MAX_CSA_ELEMENTS)):
            name, _, _, _, items, _ = struct.unpack_from("<64si4s3i", data, at)
            at += 84
            first_items = items if first_items is None else first_items
            values = []
            for _ in range(items):
                lengths = struct.unpack_from("<4i", data, at)
                at += 16
                # Version 1 adds the number of the first element's items to each length.
                length = lengths[1] if data[:4] == b"SV10" else lengths[0] - first_items
                if not 0 <= length <= len(data) - at:
                    raise ValueError
                value = data[at : at + length].split(b"\0")[0].decode("latin-1").strip()
                if value:
                    values.append(value)
                at += (length + 3) // 4 * 4
            elements[name.split(b"\0")[0].decode("latin-1")] = values
    return elements
