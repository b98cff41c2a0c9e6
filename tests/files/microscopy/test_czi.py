"""CZI, written by ZEISS's library, is read as pictures and as stacks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pyczi = pytest.importorskip("pylibCZIrw.czi")

from concurrent.futures import ThreadPoolExecutor

from segserve.errors import BadInput, TooLarge
from segserve.files.file_readers import READER_MODULE, FileReaders
from segserve.files.microscopy.czi import CziFile
from segserve.files.microscopy.microscope_file import open_series_picture
from segserve.files.open_file import open_frames
from segserve.files.sandboxed_image import open_in_process
from segserve.sandbox.sandbox import Sandbox
from segserve.types import FileKind, FileOptions, Size
from tests.files.sample_files import LIMITS, probe

RNG = np.random.default_rng(2)
# [time, slice, channel, row, column]
SERIES = RNG.integers(0, 60000, (2, 3, 2, 40, 50)).astype(np.uint16)
COLOUR = RNG.integers(0, 256, (300, 50, 3), np.uint8)


def write_series(path: Path, values: NDArray[Any] = SERIES) -> Path:
    with pyczi.create_czi(str(path)) as document:
        for time, slice_, channel in np.ndindex(*values.shape[:3]):
            plane = {"T": time, "Z": slice_, "C": channel}
            document.write(data=np.ascontiguousarray(values[time, slice_, channel][:, :, None]), plane=plane)
    return path


def write_scenes(path: Path, scenes: list[NDArray[Any]]) -> Path:
    """Write scenes of colour side by side."""
    with pyczi.create_czi(str(path)) as document:
        for number, values in enumerate(scenes):
            bgr = np.ascontiguousarray(values[:, :, ::-1])
            document.write(data=bgr, location=(100 * number, 0), scene=number)
    return path


def read_picture(path: Path, page: int = 0) -> NDArray[Any]:
    return open_series_picture(CziFile(path), page, 10**6, 10**6).read().values


def test_a_series_is_a_stack_and_its_images_are_pages(tmp_path: Path) -> None:
    path = write_series(tmp_path / "a.czi")
    record = probe(path)
    assert (record.kind, record.format, record.count, record.size) == (
        FileKind.FRAMES,
        "czi",
        6,
        Size(40, 50),
    )
    frames = open_frames(path, "czi", LIMITS)
    low, high = float(SERIES.min()), float(SERIES.max())
    for index in range(6):
        time, slice_ = divmod(index, 3)
        values = np.moveaxis(SERIES[time, slice_], 0, -1)
        assert np.array_equal(read_picture(path, index), values)
        mean = np.rint((values.astype(float) - low) / (high - low) * 255).mean(axis=2)
        assert np.abs(frames.read(index)[:, :, 0] - mean).max() <= 1
    frames.close()
    with pytest.raises(BadInput, match="no page 6"):
        read_picture(path, 6)


def test_scenes_of_colour(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "a.czi", [COLOUR, COLOUR[::-1]])
    assert np.array_equal(read_picture(path), COLOUR)
    assert np.array_equal(read_picture(path, 1), COLOUR[::-1])
    assert probe(path).count == 1
    uneven = write_scenes(tmp_path / "b.czi", [COLOUR[:9], COLOUR])
    record = probe(uneven)
    assert [(content.series, content.size.height, content.taken_time) for content in record.contents] == [
        ("scene 0", 9, None),
        ("scene 1", 300, 0),
    ]
    assert probe(uneven, options=FileOptions(series="scene 0")).size == Size(9, 50)
    with pytest.raises(BadInput, match="no series"):
        probe(uneven, options=FileOptions(series="scene 2"))
    assert np.array_equal(read_picture(uneven, 0), COLOUR[:9])


def test_a_large_mosaic_is_read_in_bands(tmp_path: Path) -> None:
    source = open_series_picture(CziFile(write_scenes(tmp_path / "a.czi", [COLOUR])), 0, 10**6, 10**6)
    assert source.bands is not None
    bands = [band.values for band in source.bands()]
    assert [len(band) for band in bands] == [256, 44]
    assert np.array_equal(np.concatenate(bands), COLOUR)


def test_limits_and_damage(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "a.czi", [COLOUR])
    open_series_picture(CziFile(path), 0, 15_000, 15_000).read()
    with pytest.raises(TooLarge):
        open_series_picture(CziFile(path), 0, 15_000, 14_999)
    data = path.read_bytes()
    for length in range(16, len(data), len(data) // 12):
        path.write_bytes(data[:length])
        with pytest.raises(BadInput):
            read_picture(path)


def test_it_is_read_in_the_sandbox(tmp_path: Path) -> None:
    path = write_series(tmp_path / "upload")
    with ThreadPoolExecutor(1) as executor:
        sandbox = Sandbox(READER_MODULE)
        readers = FileReaders(sandbox, LIMITS, timeout_s=60, memory_mb=0, executor=executor)
        assert readers.probe(path, "id").count == 6
        image = open_in_process(readers, path, 4, 10**6, 10**6)
        assert np.array_equal(image.source.read().values, np.moveaxis(SERIES[1, 1], 0, -1))
        image.close()
        sandbox.close()
