"""Masks of a DICOM SEG, bit by bit, also where a frame does not end with a byte."""

from pathlib import Path

import numpy as np
import pytest

from segserve.errors import BadInput
from segserve.files.dicom import segmentation_file
from segserve.files.dicom.segment_planes import encode_segment_planes, parse_segment_planes
from tests.files.dicom.sample_dicom import LIMITS, encode, make_series, make_slice, positions
from tests.files.dicom.sample_segmentation import write_segmentation

ROWS, COLUMNS, SLICES = 11, 13, 5


def make_files() -> dict[str, bytes]:
    values = np.zeros((ROWS, COLUMNS), np.int16)
    return {
        f"{number}": encode(make_slice(values, position, number=number + 1))
        for number, position in enumerate(positions(SLICES))
    }


@pytest.mark.parametrize("seed", range(3))
def test_masks_are_those_that_were_written(tmp_path: Path, seed: int) -> None:
    masks = np.random.default_rng(seed).random((SLICES, ROWS, COLUMNS, 2)) < 0.3
    path = write_segmentation(tmp_path / "seg.dcm", make_files(), masks, ["one", "two"])
    planes, packed = segmentation_file.read_segments(path, LIMITS)
    assert parse_segment_planes(encode_segment_planes(planes)) == planes
    assert packed.shape == planes.packed_shape
    read = np.zeros_like(masks)
    heights = [position[2] for position in positions(SLICES)]
    for plane, mask in zip(planes.planes, packed, strict=True):
        unpacked = np.unpackbits(mask, axis=1, count=COLUMNS).astype(bool)
        read[heights.index(plane.position[2]), :, :, plane.segment - 1] = unpacked
    assert np.array_equal(read, masks)


def test_a_series_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.dcm"
    path.write_bytes(make_series(1)["IM00"])
    with pytest.raises(BadInput, match="no segmentation"):
        segmentation_file.read_segments(path, LIMITS)
