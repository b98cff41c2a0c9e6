"""Arrays as TIFF, which tifffile reads back value for value."""

import io
from typing import Any

import numpy as np
import pytest
import tifffile

from segserve_client import tiff

RNG = np.random.default_rng(0)
LARGE = RNG.integers(0, 60_000, (700, 1100, 3)).astype(np.uint16)  # several strips


def write(array: np.ndarray, *, stack: bool = False) -> bytes:
    file = io.BytesIO()
    (tiff.write_stack if stack else tiff.write_picture)(array, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        RNG.integers(0, 255, (31, 17), np.uint8),
        RNG.integers(0, 255, (31, 17, 3), np.uint8),
        LARGE,
        RNG.random((31, 17)).astype(np.float32),
    ],
    ids=["grey", "colour", "deep", "float"],
)
def test_a_picture(array: np.ndarray) -> None:
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(write(array))), array)
    assert write(array) == write(array), "the service knows it again"


@pytest.mark.parametrize("shape", [(5, 31, 17), (5, 31, 17, 3)])
@pytest.mark.parametrize("is_big", [False, True])
def test_a_stack(shape: tuple[int, ...], is_big: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_big:
        monkeypatch.setattr(tiff, "_MAX_CLASSIC_BYTES", 1000)
    array = RNG.integers(0, 60_000, shape).astype(np.uint16)
    with tifffile.TiffFile(io.BytesIO(write(array, stack=True))) as file:
        assert file.is_bigtiff == is_big
        np.testing.assert_array_equal(np.stack([page.asarray() for page in file.pages]), array)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[True, False]]), np.array([[255, 0]], np.uint8)),
        (np.array([[0, 65_535]], np.int64), np.array([[0, 65_535]], np.uint16)),
        (np.array([[-1, 70_000]], np.int64), np.array([[-1, 70_000]], np.float32)),
        (np.array([[0.5, 2]], np.float64), np.array([[0.5, 2]], np.float32)),
    ],
)
def test_other_types_keep_their_values(values: np.ndarray, expected: np.ndarray) -> None:
    samples = tiff.to_samples(values)
    assert samples.dtype == expected.dtype
    np.testing.assert_array_equal(samples, expected)


@pytest.mark.parametrize("shape", [(4,), (4, 5, 2), (2, 3, 4, 5), (0, 5)])
def test_what_is_no_picture_is_refused(shape: Any) -> None:
    with pytest.raises(ValueError, match=r"send \[height, width\]"):
        write(np.zeros(shape, np.uint8))


def test_alpha_is_left_out() -> None:
    array = RNG.integers(0, 255, (9, 8, 4), np.uint8)
    assert write(array) == write(array[..., :3])


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="complex"):
        write(np.zeros((3, 3), np.complex64))
