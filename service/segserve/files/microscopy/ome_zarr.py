"""Read OME-Zarr (NGFF) in a zip: each image with all its points in time, slices and channels, at full resolution.

See https://ngff.openmicroscopy.org: a group's metadata name the arrays of an image (`multiscales`), the largest first.
Versions 0.1 to 0.5 are read. Groups below `labels` are label images, which belong to another one.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipInfo

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.files.microscopy.microscope_file import ImageSeries, check_series, name_uniquely
from segserve.files.microscopy.zarr_array import MAX_METADATA_BYTES, NAME, ZarrArray, parse_json
from segserve.files.zip_archive import ZIP_ERRORS, BoundedZip, check_entries, wrap_zip_errors
from segserve.files.zip_names import natural_sort_key
from segserve.images.image_source import damaged_file_error, unsupported_error, wrap_codec_errors
from segserve.types import LeftOutFile, Size

GROUP_FILES = (".zattrs", "zarr.json")
# Groups whose metadata are read.
MAX_GROUPS = 1000
LABELS = "labels"
# Axes of versions before 0.3.
OLD_AXES = ("t", "c", "z", "y", "x")


def holds_ome_zarr(path: Path) -> bool:
    """Return whether a zip has the metadata of an OME-Zarr image. Raises TooLarge."""
    try:
        with BoundedZip(path) as archive:
            return any(is_image_group(archive, info) for info in list_groups(archive))
    except ZIP_ERRORS:
        return False


def list_groups(archive: BoundedZip) -> list[ZipInfo]:
    """Return the entries that may be metadata of a group, the first MAX_GROUPS of them, in order of their names."""
    groups = [
        info
        for info in archive.infolist()
        if info.filename.rpartition("/")[2] in GROUP_FILES and LABELS not in info.filename.split("/")[:-1]
    ]
    return sorted(groups, key=lambda info: natural_sort_key(info.filename))[:MAX_GROUPS]


def is_image_group(archive: BoundedZip, info: ZipInfo) -> bool:
    with archive.open(info) as entry:
        return b'"multiscales"' in entry.read(MAX_METADATA_BYTES)


class ZipStore:
    """`ZipStore` has the entries of a zip, at their names. Entries are unpacked whole, so that checksums count."""

    def __init__(self, archive: BoundedZip) -> None:
        self._archive = archive
        self._infos = {info.filename: info for info in archive.infolist()}

    def read(self, key: str, max_bytes: int) -> bytes | None:
        """As `Store.read`."""
        if (info := self._infos.get(key)) is None:
            return None
        if info.file_size > max_bytes:
            raise damaged_file_error(NAME)
        with wrap_zip_errors(f"{key[-100:]!r} in the zip"):
            return self._archive.read(info)


class OmeZarrFile:
    """`OmeZarrFile` lists and reads the images of an OME-Zarr. Each is a series.

    max_mb: limit for the zip, unpacked. Raises BadInput, TooLarge, UnsupportedFormat.
    """

    format_name, is_packed = NAME, True

    def __init__(self, path: Path, max_mb: int) -> None:
        self.series: list[ImageSeries] = []
        self.left_out: list[LeftOutFile] = []
        self._arrays: list[tuple[ZarrArray, tuple[str, ...]]] = []
        with wrap_zip_errors("The zip"):
            self._archive = BoundedZip(path)
        try:
            check_entries(self._archive.infolist(), max_mb)
            store = ZipStore(self._archive)
            for info in list_groups(self._archive):
                folder = info.filename[: info.filename.rfind("/") + 1]
                try:
                    with wrap_codec_errors(NAME):
                        self._add(
                            store, folder, parse_json(store.read(info.filename, MAX_METADATA_BYTES) or b"")
                        )
                except BadInput as error:
                    self.left_out.append(LeftOutFile(folder.rstrip("/") or info.filename, error.message))
            names = name_uniquely([series.name for series in self.series])
            self.series = [replace(one, name=name) for one, name in zip(self.series, names, strict=True)]
            check_series(self)
        except BaseException:
            self.close()
            raise

    def _add(self, store: ZipStore, folder: str, metadata: dict[str, Any]) -> None:
        """Add the image of a group, if it has one. Raises BadInput, and KeyError and others of damaged metadata."""
        attributes = metadata.get("attributes", metadata)
        multiscales = attributes.get("ome", attributes).get("multiscales")
        if not multiscales:
            return
        first = multiscales[0]
        array = ZarrArray(store, f"{folder}{first['datasets'][0]['path']}/")
        axes = read_axes(first, len(array.header.shape))
        sizes = dict(zip(axes, array.header.shape, strict=True))
        if any(size > 1 for name, size in sizes.items() if name not in "tczyx"):
            raise unsupported_error("OME-Zarr with more axes than t, c, z, y and x")
        if "y" not in sizes or "x" not in sizes:
            raise unsupported_error("OME-Zarr without the axes y and x")
        name = folder.rstrip("/") or str(first.get("name") or "image")
        self.series.append(
            ImageSeries(
                name,
                Size(sizes["y"], sizes["x"]),
                sizes.get("t", 1),
                sizes.get("z", 1),
                sizes.get("c", 1),
                array.header.dtype.newbyteorder("="),
                array.memory_bytes,
            )
        )
        self._arrays.append((array, axes))

    def read(self, series: int, time: int, slice: int, top: int, height: int) -> NDArray[Any]:
        """As `MicroscopeFile.read`."""
        array, axes = self._arrays[series]
        one = self.series[series]
        ranges = {"t": (time, time + 1), "z": (slice, slice + 1), "c": (0, one.channels), "y": (top, top + height),
                  "x": (0, one.size.width)}  # fmt: skip
        starts, stops = zip(*(ranges.get(axis, (0, 1)) for axis in axes), strict=True)
        values = array.read(starts, stops).astype(one.dtype, copy=False)
        kept = [axis for axis in axes if axis in ("y", "x", "c")]
        values = values.reshape([values.shape[axes.index(axis)] for axis in kept])
        if "c" not in kept:
            kept, values = [*kept, "c"], values[..., np.newaxis]
        return values.transpose([kept.index(axis) for axis in ("y", "x", "c")])

    def close(self) -> None:
        self._archive.close()


def read_axes(multiscale: dict[str, Any], dimensions: int) -> tuple[str, ...]:
    """Return the names of the axes, in lower case. Raises BadInput."""
    stated: Sequence[Any] = multiscale.get("axes") or OLD_AXES
    axes = tuple(str(axis["name"] if isinstance(axis, dict) else axis).lower() for axis in stated)
    if len(axes) != dimensions or len(set(axes)) != dimensions:
        raise damaged_file_error(NAME)
    return axes
