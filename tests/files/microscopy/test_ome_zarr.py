"""OME-Zarr in a zip, as zarr writes it, is read as pictures and as stacks."""

import json
import shutil
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

zarr = pytest.importorskip("zarr")

from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from segserve.errors import BadInput
from segserve.files.detect_format import detect_format
from segserve.files.microscopy.microscope_file import open_series_picture
from segserve.files.microscopy.ome_zarr import OmeZarrFile
from segserve.files.open_file import open_frames, open_picture
from segserve.types import FileKind, FileOptions, Size
from tests.files.sample_files import LIMITS, probe

RNG = np.random.default_rng(5)
# [time, channel, slice, row, column]
VALUES = RNG.integers(0, 60000, (2, 4, 3, 40, 50)).astype(np.uint16)


def write_image(
    folder: Path, values: NDArray[Any], axes: str, *, version: int = 3, chunks: Any = None, **options: Any
) -> None:
    """Write an image and a smaller level of it, which must not be read."""
    group = zarr.open_group(str(folder), mode="w", zarr_format=version)
    for name, level in (("0", values), ("1", values[..., ::2, ::2])):
        array = group.create_array(
            name, shape=level.shape, dtype=level.dtype, chunks=chunks or level.shape, **options
        )
        array[...] = level
    described = [{"name": axis, "type": "space"} for axis in axes]
    multiscales = [{"axes": described, "datasets": [{"path": "0"}, {"path": "1"}], "name": "cells"}]
    if version == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    else:
        group.attrs["multiscales"] = multiscales


def zip_folder(
    folder: Path, path: Path, *, with_folder: bool = True, packing: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", packing) as out:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                out.write(file, file.relative_to(folder.parent if with_folder else folder))
    return path


def read_all(path: Path) -> list[NDArray[Any]]:
    """Return [T, Z, H, W, C] of each series."""
    with closing(OmeZarrFile(path, 100)) as file:
        return [
            np.array(
                [
                    [file.read(number, time, slice_, 0, one.size.height) for slice_ in range(one.slices)]
                    for time in range(one.times)
                ]
            )
            for number, one in enumerate(file.series)
        ]


LAYOUTS: dict[str, dict[str, Any]] = {
    "one chunk": {},
    "small chunks": {"chunks": (1, 1, 1, 16, 16)},
    "uneven chunks": {"chunks": (2, 3, 2, 7, 50), "compressors": GzipCodec()},
    "blosc": {"chunks": (1, 4, 1, 20, 50), "compressors": BloscCodec(cname="lz4", shuffle="bitshuffle")},
    "checked": {"chunks": (1, 1, 3, 40, 50), "compressors": [ZstdCodec(checksum=True), Crc32cCodec()]},
    "transposed": {"chunks": (1, 4, 3, 40, 50), "filters": [TransposeCodec(order=(0, 2, 1, 4, 3))]},
    "shards": {"chunks": (1, 1, 1, 20, 25), "shards": (1, 2, 3, 40, 50)},
    "raw": {"chunks": (1, 1, 1, 16, 16), "compressors": None},
    "version 2": {"version": 2, "chunks": (1, 1, 2, 16, 16)},
    "version 2, nested": {
        "version": 2, "chunks": (1, 1, 2, 16, 16), "chunk_key_encoding": {"name": "v2", "separator": "/"},
    },
    "version 2, of Fortran": {"version": 2, "order": "F", "chunks": (1, 2, 2, 16, 16)},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("ignore")
def test_images_are_those_that_zarr_wrote(tmp_path: Path, layout: str) -> None:
    write_image(tmp_path / "a.zarr", VALUES, "tczyx", **LAYOUTS[layout])
    path = zip_folder(tmp_path / "a.zarr", tmp_path / "upload")
    [values] = read_all(path)
    assert np.array_equal(values, VALUES.transpose(0, 2, 3, 4, 1))
    record = probe(path)
    assert (record.kind, record.format, record.count, record.size) == (
        FileKind.FRAMES,
        "ome_zarr",
        6,
        Size(40, 50),
    )
    assert "first 3 of 4 channels" in record.contents[0].notes[1]
    picture = open_picture(path, 4, 10**6, 10**6)
    assert picture.bands is not None
    assert np.array_equal(next(picture.bands()).values, VALUES[1, :, 1].transpose(1, 2, 0))


@pytest.mark.filterwarnings("ignore")
def test_axes_zip_layouts_and_missing_chunks(tmp_path: Path) -> None:
    plane = VALUES[0, 0, 0].copy()
    plane[:16, :16] = 7
    write_image(tmp_path / "plane.zarr", plane, "yx", chunks=(16, 16), fill_value=7)
    first = zip_folder(
        tmp_path / "plane.zarr", tmp_path / "a", with_folder=False, packing=zipfile.ZIP_DEFLATED
    )
    with zipfile.ZipFile(first) as archive:
        assert "0/c/0/0" not in archive.namelist()
    [values] = read_all(first)
    assert np.array_equal(values[0, 0, ..., 0], plane)
    # As bioformats2raw writes it: a folder of images, and labels that are none of them.
    both = tmp_path / "both.zarr"
    write_image(both / "0", VALUES[0, 0, 0], "yx")
    write_image(both / "1", VALUES[0, 0], "zyx")
    write_image(both / "1" / "labels" / "cells", VALUES[0, 0] % 2, "zyx")
    path = zip_folder(both, tmp_path / "b")
    record = probe(path)
    assert [(content.series, content.count, content.taken_time) for content in record.contents] == [
        ("both.zarr/0", 1, None),
        ("both.zarr/1", 3, 0),
    ]
    assert probe(path, options=FileOptions(series="both.zarr/0")).count == 1
    frames = open_frames(path, "ome_zarr", LIMITS)
    low, high = float(VALUES[0, 0].min()), float(VALUES[0, 0].max())
    expected = np.rint((VALUES[0, 0, 1].astype(float) - low) / (high - low) * 255)
    assert np.abs(frames.read(1)[:, :, 0] - expected).max() <= 1
    frames.close()
    with closing(OmeZarrFile(path, 100)) as file, pytest.raises(BadInput, match="no page 4"):
        open_series_picture(file, 4, 10**6, 10**6)


@pytest.mark.filterwarnings("ignore")
def test_damaged_and_incomplete_ones_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    write_image(folder, VALUES, "tczyx", chunks=(1, 1, 3, 40, 50))
    whole = zip_folder(folder, tmp_path / "whole").read_bytes()
    chunk = folder / "0" / "c" / "1" / "0" / "0" / "0" / "0"
    data = chunk.read_bytes()
    for broken in (data[:-9], bytes(len(data)), b""):
        chunk.write_bytes(broken)
        with pytest.raises(BadInput, match="damaged"):
            probe(zip_folder(folder, tmp_path / "b"))
    at = whole.index(data)
    (tmp_path / "c").write_bytes(whole[: at + 50] + bytes(20) + whole[at + 70 :])
    with pytest.raises(BadInput, match="cannot be read"):
        probe(tmp_path / "c")
    chunk.write_bytes(data)
    metadata = folder / "0" / "zarr.json"
    header = json.loads(metadata.read_text())
    for change in (
        {"shape": [2, 4, 3, 40]},
        {"data_type": "complex64"},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1, 3, 40, 1 << 30]}}},
        {"codecs": [{"name": "bytes"}, {"name": "secret"}]},
    ):
        metadata.write_text(json.dumps({**header, **change}))
        with pytest.raises(BadInput):
            probe(zip_folder(folder, tmp_path / "d"))
    shutil.rmtree(folder / "0")
    with pytest.raises(BadInput, match=r"no array 'a\.zarr/0'"):
        probe(zip_folder(folder, tmp_path / "e"))


def test_other_zips_are_no_ome_zarr(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w") as out:
        out.writestr("table.zarr/zarr.json", json.dumps({"zarr_format": 3, "node_type": "group"}))
    assert detect_format(tmp_path / "a") == "zip"
