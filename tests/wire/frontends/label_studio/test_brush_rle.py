"""Run lengths of brushes: as label_studio_sdk writes and reads them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segserve.errors import BadInput
from segserve.masks import crop
from segserve.types import Size
from segserve.wire.frontends.label_studio import brush_rle

masks = arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 90)), fill=st.booleans())


def reference_bits(mask: np.ndarray) -> str:
    """The format, as its description says it: a run at a time."""
    values = np.repeat(np.where(mask.ravel(), 255, 0), 4)
    bits = f"{len(values):032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    changes = np.flatnonzero(np.diff(values)) + 1
    starts, ends = [0, *changes.tolist()], [*changes.tolist(), len(values)]
    for start, end in zip(starts, ends, strict=True):
        length, value = end - start, int(values[start])
        index = next((i for i, limit in enumerate((8, 16, 256)) if length <= limit), 3)
        size = (3, 4, 8, 16)[index]
        while length > 0:
            part = min(length, 1 << size)
            bits += f"1{index:02b}{part - 1:0{size}b}{value:08b}"
            length -= part
    return bits


@given(masks)
def test_it_is_the_format(mask: np.ndarray) -> None:
    encoded = brush_rle.encode(crop.from_mask(mask))
    bits = "".join(f"{byte:08b}" for byte in encoded.tolist())
    expected = reference_bits(mask)
    assert bits.startswith(expected)
    assert bits[len(expected) :] == "0" * (8 - len(expected) % 8)


@given(masks)
def test_decoding_gives_the_mask_back(mask: np.ndarray) -> None:
    encoded = brush_rle.encode(crop.from_mask(mask)).tobytes()
    assert np.array_equal(brush_rle.decode(encoded, Size(*mask.shape), "rle"), mask)


def test_label_studios_own_package_agrees() -> None:
    reason = "label_studio_sdk is not installed: tests/clients/test_label_studio.py compares with it"
    sdk = pytest.importorskip("label_studio_sdk.converter.brush", reason=reason)
    for shape in ((7, 5), (60, 40), (300, 400)):
        for density in (0.0, 0.01, 0.5, 1.0):
            mask = np.random.default_rng(1).random(shape) < density
            encoded = brush_rle.encode(crop.from_mask(mask)).tolist()
            assert encoded == sdk.mask2rle(np.where(mask, 255, 0).astype(np.uint8))
            assert np.array_equal(sdk.decode_rle(encoded).reshape(*shape, 4)[..., 3] > 0, mask)


def test_a_mask_of_a_part_is_the_mask_of_the_whole() -> None:
    mask = np.zeros((50, 80), np.bool_)
    mask[10:20, 70:] = True  # its runs end at the right edge
    mask[20, :9] = True
    whole = crop.from_mask(mask)
    assert np.array_equal(brush_rle.encode(whole), brush_rle.encode(crop.Crop(mask, 0, 0, Size(50, 80))))


def test_different_values_one_after_the_other_are_read() -> None:
    """As browsers write the edge of a brush."""
    bits = (
        f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
        + "000"
        + "111"
        + "".join(f"{value:08b}" for value in (0, 0, 0, 7, 0, 0, 0, 0))
    )
    data = bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))
    assert brush_rle.decode(data, Size(1, 2), "rle").tolist() == [[True, False]]


@pytest.mark.parametrize("cut", [0, 3, 6, 9])
def test_what_is_cut_short_is_refused(cut: int) -> None:
    encoded = brush_rle.encode(crop.from_mask(np.eye(20, dtype=np.bool_))).tobytes()
    with pytest.raises(BadInput):
        brush_rle.decode(encoded[:cut], Size(20, 20), "rle")
    with pytest.raises(BadInput):
        brush_rle.decode(encoded, Size(20, 21), "rle")
