"""LIF is read as another reader reads it, as pictures and as stacks."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

liffile = pytest.importorskip("liffile")

from segserve.errors import BadInput, UnsupportedFormat
from segserve.files.microscopy.lif import LifFile
from segserve.files.microscopy.microscope_file import open_series_picture
from segserve.files.open_file import open_frames
from segserve.types import FileKind, FileOptions, Size
from tests.files.microscopy.microscope_files import write_lif
from tests.files.sample_files import LIMITS, probe

RNG = np.random.default_rng(3)
# [time, slice, channel, row, column]
SERIES = RNG.integers(0, 60000, (2, 3, 2, 40, 50)).astype(np.uint16)
COLOUR = RNG.integers(0, 256, (30, 20, 3), np.uint8)


def read_all(path: Path) -> list[NDArray[Any]]:
    """Return [T, Z, H, W, C] of each series."""
    with closing(LifFile(path.open("rb"))) as file:
        return [
            np.array(
                [
                    [file.read(number, time, slice_, 0, one.size.height) for slice_ in range(one.slices)]
                    for time in range(one.times)
                ]
            )
            for number, one in enumerate(file.series)
        ]


def read_picture(path: Path, page: int = 0) -> NDArray[Any]:
    with closing(LifFile(path.open("rb"))) as file:
        return open_series_picture(file, page, 10**6, 10**6).read().values


@pytest.mark.parametrize("is_long", [True, False])
def test_series_are_those_of_another_reader(tmp_path: Path, is_long: bool) -> None:
    images = [("a", "tzcyx", SERIES), ("b", "yxc", COLOUR), ("c", "zyx", SERIES[0, :, 0].astype(np.float32))]
    path = write_lif(tmp_path / "a.lif", images, is_long=is_long)
    first, colours, floats = read_all(path)
    with liffile.LifFile(path) as other:
        by_type = {str(image.dtype): image.asarray() for image in other.images}
    assert np.array_equal(np.moveaxis(first, -1, 2), by_type["uint16"])
    assert np.array_equal(colours[0, 0], by_type["uint8"])
    assert np.array_equal(floats[0, ..., 0], by_type["float32"])
    with closing(LifFile(path.open("rb"))) as file:
        assert [one.name for one in file.series] == ["experiment/a", "experiment/b", "experiment/c"]
    record = probe(path)
    assert (record.kind, record.format, record.count) == (FileKind.FRAMES, "lif", 6)
    assert [content.taken_time for content in record.contents] == [0, None, None]
    assert "2 points in time, and of each 3 slices" in record.contents[0].notes[0]
    chosen = probe(path, options=FileOptions(series="experiment/b"))
    assert (chosen.count, chosen.size) == (1, Size(30, 20))
    for page, expected in ((4, np.moveaxis(SERIES[1, 1], 0, -1)), (6, COLOUR)):
        assert np.array_equal(read_picture(path, page), expected)
    frames = open_frames(path, "lif", LIMITS, FileOptions(series="1"))
    assert np.array_equal(frames.read(0), COLOUR)
    frames.close()


def test_names_are_unique(tmp_path: Path) -> None:
    path = write_lif(tmp_path / "a.lif", [("b", "yxc", COLOUR), ("b", "yxc", COLOUR)])
    assert [content.series for content in probe(path).contents] == ["experiment/b", "experiment/b (2)"]


def test_colours_are_in_order_of_rgb(tmp_path: Path) -> None:
    bgr = np.ascontiguousarray(COLOUR[:, :, ::-1])
    path = write_lif(tmp_path / "a.lif", [("a", "yxc", bgr)], tags=(3, 2, 1))
    assert np.array_equal(read_picture(path), COLOUR)
    with liffile.LifFile(path) as other:
        assert np.array_equal(other.images[0].asarray(), COLOUR)


def test_scans_across_and_along_and_by_wavelength(tmp_path: Path) -> None:
    across = SERIES[0, :, 0]  # in planes of x and z
    lines = SERIES[0, 0, 0]
    waves = SERIES[0]
    images = [("across", "yzx", across), ("lines", "tx", lines), ("waves", "lcyx", waves)]
    first, second, *others = read_all(write_lif(tmp_path / "a.lif", images))
    assert np.array_equal(first[0, ..., 0], across)
    assert np.array_equal(second[0, 0, ..., 0], lines)
    for values, wave in zip(others, waves, strict=True):
        assert np.array_equal(np.moveaxis(values[0, 0], -1, 0), wave)


def test_cut_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = write_lif(tmp_path / "a.lif", [("a", "tzcyx", SERIES), ("b", "yxc", COLOUR)])
    data = path.read_bytes()
    for length in range(16, len(data), len(data) // 15):
        path.write_bytes(data[:length])
        with pytest.raises(BadInput, match=r"ends early|damaged"):
            probe(path)
    steps = 'BytesInc="100"'.encode("utf-16-le")
    assert steps in data
    for wrong in ('BytesInc="999"', 'BytesInc="-10"', 'BytesInc="1e9"'):
        path.write_bytes(data.replace(steps, wrong.encode("utf-16-le"), 1))
        with pytest.raises(BadInput, match="damaged"):
            probe(path)
    doctype = "<!DOCTYPE x [<!ENTITY a 'aaaa'>]>"
    with pytest.raises(BadInput, match="document type"):
        probe(write_lif(path, [("a", "yxc", COLOUR)], prefix=doctype))


def test_images_without_samples_are_left_out(tmp_path: Path) -> None:
    path = write_lif(tmp_path / "a.lif", [("a", "yxc", COLOUR), ("b", "yxc", COLOUR)])
    data = path.read_bytes()
    name = "MemBlock_1".encode("utf-16-le")
    at = data.index(name)
    path.write_bytes(data[:at] + "MemBlock_7".encode("utf-16-le") + data[at + len(name) :])
    left_out = probe(path).left_out
    assert (left_out.count, left_out.files[0].name) == (1, "experiment/b")
    path.write_bytes(data.replace("MemBlock_".encode("utf-16-le"), "Elsewhere".encode("utf-16-le"), 2))
    with pytest.raises(UnsupportedFormat, match="Its samples are not in the file"):
        probe(path)
