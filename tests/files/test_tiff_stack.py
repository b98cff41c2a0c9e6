"""The pages of a TIFF are frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segserve.errors import BadInput
from segserve.files.open_file import open_frames
from segserve.types import FileKind, Size
from tests.files.sample_files import LIMITS, probe


def test_16_bit_pages_are_stretched_together(tmp_path: Path) -> None:
    values = (
        np.arange(8)[:, None, None] * 1000 + np.arange(40)[None, None] * 10 + np.zeros((8, 30, 40))
    ).astype(np.uint16)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, values, photometric="minisblack")
    record = probe(path)
    assert (record.kind, record.count, record.size) == (FileKind.FRAMES, 8, Size(30, 40))
    frames = open_frames(path, "tiff", LIMITS)
    expected = np.rint(values / values.max() * 255)
    for index in (7, 0, 4):
        assert np.abs(frames.read(index)[:, :, 0] - expected[index]).max() <= 1
    frames.close()


def test_channels_in_separate_pages_are_one_frame(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (5, 2, 30, 40), np.uint8)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, values, imagej=True, metadata={"axes": "TCYX"})
    assert probe(path).count == 5


def test_a_tiff_whose_pages_run_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((3, 8, 8), np.uint8), photometric="minisblack", byteorder="<")
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[2].offset
    data = bytearray(path.read_bytes())
    entries = int.from_bytes(data[last : last + 2], "little")
    at = last + 2 + 12 * entries
    data[at : at + 4] = first.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BadInput):
        probe(path)


def test_pages_of_several_sizes_are_refused_at_the_upload(tmp_path: Path) -> None:
    """A pyramid, or a picture with its thumbnail: a job would fail at the second page."""
    for bigtiff in (False, True):
        path = tmp_path / "levels.tif"
        with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
            for side in (64, 64, 32):
                writer.write(np.zeros((side, side), np.uint8), photometric="minisblack")
        with pytest.raises(BadInput, match="Page 2 of the TIFF is 32 x 32, the first one 64 x 64"):
            probe(path)


def test_a_stack_with_one_directory_has_all_its_frames(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (5, 30, 40), np.uint8)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, values, photometric="minisblack", truncate=True)
    assert probe(path).count == 5
    frames = open_frames(path, "tiff", LIMITS)
    assert all(np.array_equal(frames.read(index)[:, :, 0], values[index]) for index in range(5))
    frames.close()


def test_frames_compressed_by_any_codec(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, 30, 40), np.uint8)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, values, photometric="minisblack", compression="lzma")
    frames = open_frames(path, "tiff", LIMITS)
    assert np.array_equal(frames.read(2)[:, :, 0], values[2])
    frames.close()


@pytest.mark.parametrize(
    ("unit", "millimetres"), [("um", 1e-3), ("micron", 1e-3), ("\\u00B5m", 1e-3), ("mm", 1.0)]
)
def test_imagej_says_how_far_slices_are_apart(tmp_path: Path, unit: str, millimetres: float) -> None:
    path = tmp_path / "stack.tif"
    metadata = {"axes": "ZYX", "spacing": 2.0, "unit": unit}
    tifffile.imwrite(
        path, np.zeros((5, 30, 40), np.uint8), imagej=True, resolution=(1 / 0.65, 1 / 0.5), metadata=metadata
    )
    assert probe(path).spacing == pytest.approx((2 * millimetres, 0.5 * millimetres, 0.65 * millimetres))


def test_ome_says_how_far_slices_are_apart(tmp_path: Path) -> None:
    path = tmp_path / "stack.ome.tif"
    sizes = {"PhysicalSizeX": 0.65, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2000.0, "PhysicalSizeZUnit": "nm"}
    tifffile.imwrite(path, np.zeros((5, 30, 40), np.uint8), ome=True, metadata={"axes": "ZYX", **sizes})
    assert probe(path).spacing == pytest.approx((2e-3, 0.5e-3, 0.65e-3))


def test_an_axis_with_a_unit_of_its_own_has_no_spacing(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    text = "ImageJ=1.54f\nimages=5\nslices=5\nunit=um\nspacing=2.0\n"
    for more, is_known in (("", True), ("zunit=mm\n", False), ("yunit=mm\n", False), ("zunit=um\n", True)):
        pages = np.zeros((5, 30, 40), np.uint8)
        tifffile.imwrite(path, pages, description=text + more, metadata=None, resolution=(2.0, 2.0))
        assert (probe(path).spacing is not None) == is_known, more


@pytest.mark.parametrize(
    "metadata",
    [
        {"axes": "ZYX"},
        {"axes": "ZYX", "spacing": 2.0},
        {"axes": "ZYX", "spacing": 2.0, "unit": "pixel"},
        {"axes": "ZYX", "spacing": 0.0, "unit": "um"},
        {"axes": "ZYX", "spacing": 1e12, "unit": "um"},
        {"axes": "TYX", "spacing": 2.0, "unit": "um"},
    ],
)
def test_stacks_that_do_not_say_it_have_no_spacing(tmp_path: Path, metadata: dict[str, Any]) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(
        path, np.zeros((5, 30, 40), np.uint8), imagej=True, resolution=(2.0, 2.0), metadata=metadata
    )
    assert probe(path).spacing is None
