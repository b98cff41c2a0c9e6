"""ND2 is read as another reader reads it, as pictures and as stacks."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

nd2 = pytest.importorskip("nd2")

from segserve.errors import BadInput, UnsupportedFormat
from segserve.files.microscopy.microscope_file import open_series_picture
from segserve.files.microscopy.nd2 import Nd2File
from segserve.files.open_file import open_frames
from segserve.types import FileKind, FileOptions
from tests.files.microscopy.microscope_files import write_nd2
from tests.files.sample_files import LIMITS, probe

RNG = np.random.default_rng(4)
IMAGES = RNG.integers(0, 60000, (12, 20, 33, 2)).astype(np.uint16)
LOOPS = (("T", 2), ("P", 2), ("Z", 3))


def read_all(path: Path) -> list[NDArray[Any]]:
    """Return [T, Z, H, W, C] of each series."""
    with closing(Nd2File(path.open("rb"))) as file:
        return [
            np.array(
                [
                    [file.read(number, time, slice_, 0, one.size.height) for slice_ in range(one.slices)]
                    for time in range(one.times)
                ]
            )
            for number, one in enumerate(file.series)
        ]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("is_packed", [False, True])
def test_positions_are_those_of_another_reader(tmp_path: Path, is_packed: bool, version: int) -> None:
    path = write_nd2(tmp_path / "a.nd2", IMAGES, LOOPS, is_packed=is_packed, version=version)
    expected = np.moveaxis(nd2.imread(path), 3, -1)  # [T, P, Z, C, H, W]
    positions = read_all(path)
    assert len(positions) == 2
    for number, values in enumerate(positions):
        assert np.array_equal(values, expected[:, number])
    record = probe(path)
    assert (record.kind, record.format, record.count) == (FileKind.FRAMES, "nd2", 6)
    assert [(c.series, c.taken_time) for c in record.contents] == [("position 0", 0), ("position 1", None)]
    with closing(Nd2File(path.open("rb"))) as file:
        picture = open_series_picture(file, 10, 10**6, 10**6)  # position 1, time 1, slice 1
        assert np.array_equal(picture.read().values, expected[1, 1, 1])
        assert picture.bands is not None
        assert np.array_equal(np.concatenate([band.values for band in picture.bands()]), expected[1, 1, 1])


def test_rows_with_padding_and_colours(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (3, 20, 11, 3), np.uint8)
    path = write_nd2(tmp_path / "a.nd2", colours, [("T", 3)], pad=7, channels=1)
    [values] = read_all(path)
    assert np.array_equal(values[:, 0], nd2.imread(path))
    frames = open_frames(path, "nd2", LIMITS)
    assert np.array_equal(frames.read(2), colours[2])
    frames.close()


@pytest.mark.parametrize(
    ("loops", "flags", "shape"),
    [
        ((("P", 2), ("Z", 6)), b"", (2, 1, 6)),
        ((("N", 4), ("Z", 3)), b"", (1, 4, 3)),
        ((("P", 3), ("T", 6)), b"\1\0\1", (2, 6, 1)),
        ((("T", 12),), b"", (1, 12, 1)),
        ((("T", 7), ("Z", 3)), b"", (1, 12, 1)),
        ((), b"", (1, 12, 1)),
    ],
)
def test_loops(tmp_path: Path, loops: Any, flags: bytes, shape: tuple[int, ...]) -> None:
    path = write_nd2(tmp_path / "a.nd2", IMAGES, loops, flags=flags)
    values = np.array(read_all(path))
    assert values.shape[:3] == shape
    assert np.array_equal(values.reshape(IMAGES.shape), IMAGES)
    has_note = loops == (("T", 7), ("Z", 3)) or not loops
    assert any("are there" in note for note in probe(path).contents[0].notes) == has_note


def test_cut_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = write_nd2(tmp_path / "a.nd2", IMAGES, LOOPS)
    data = path.read_bytes()
    for length in range(16, len(data), len(data) // 15):
        path.write_bytes(data[:length])
        with pytest.raises(BadInput, match=r"cut short"):
            probe(path)
    for old, new in (
        (b"ImageDataSeq|3!", b"ImageDataSeX|3!"),
        (b"ImageAttributesLV!", b"ImageXttributesLV!"),
        (b"ND2 FILEMAP", b"\0\0\0\0"),
    ):
        path.write_bytes(data.replace(old, new) if old != b"ND2 FILEMAP" else data[:-8] + bytes(8))
        with pytest.raises(BadInput):
            probe(path)
    packed = bytearray(write_nd2(path, IMAGES, LOOPS, is_packed=True).read_bytes())
    at = packed.index(b"ImageDataSeq|7!") + 4072 + 8 + 300
    packed[at : at + 40] = bytes(40)
    path.write_bytes(bytes(packed))
    with pytest.raises(BadInput, match="damaged"):
        probe(path, options=FileOptions(series="position 0"))


def test_lossy_compression_is_refused(tmp_path: Path) -> None:
    path = write_nd2(tmp_path / "a.nd2", IMAGES, LOOPS, version=2)
    data = path.read_bytes()
    path.write_bytes(
        data.replace(
            b'eCompression runtype="lx_uint32" value="2"', b'eCompression runtype="lx_uint32" value="1"'
        )
    )
    with pytest.raises(UnsupportedFormat, match="lossy"):
        probe(path)
