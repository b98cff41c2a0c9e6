"""Random and damaged files give pixels or a refusal, and cost no references."""

import gc
import struct
import sys

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segserve.errors import SegserveError
from tests.images.decoding import GREY, RGB, RGBA, RNG, H, W, read
from tests.images.sample_images import save_image, write_tiff

VALID: list[bytes] = [
    save_image(Image.fromarray(RGB)),
    save_image(Image.fromarray(RGB).quantize(100), transparency=b"\0\1\2"),
    save_image(Image.fromarray(RGB), save_all=True, append_images=[Image.fromarray(RGB[::-1])]),
    imagecodecs.png_encode(RNG.integers(0, 65536, (H, W, 3), np.uint16)),
    save_image(Image.fromarray(RGB), "JPEG"),
    save_image(Image.fromarray(RGBA, "CMYK"), "JPEG", progressive=True),
    save_image(Image.fromarray(RGB), "WEBP"),
    save_image(Image.fromarray(RGBA), "WEBP", lossless=True),
    save_image(Image.fromarray(GREY > 9), "BMP"),
    save_image(Image.fromarray(RGB), "BMP"),
    write_tiff(RGB, photometric="rgb"),
    write_tiff(
        RGB.astype(np.float32), photometric="rgb", compression="deflate", predictor=True, bigtiff=True
    ),
    write_tiff(RGB.astype(np.uint16), photometric="rgb", compression="lzw", tile=(16, 16), byteorder=">"),
    write_tiff(RGB, photometric="rgb", compression="jpeg", tile=(16, 16)),
    write_tiff(GREY, compression="zstd", rowsperstrip=3),
    write_tiff(GREY > 9, compression="packbits"),
    write_tiff(GREY, photometric="palette", colormap=RNG.integers(0, 65536, (3, 256), np.uint16)),
    write_tiff(np.stack([GREY, GREY]), imagej=True, metadata={"axes": "CYX"}),
    write_tiff(np.stack([GREY, GREY]), ome=True, metadata={"axes": "CYX"}),
]
LIGHT = settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def must_not_crash(data: bytes, page: int) -> None:
    try:
        read(data, page=page)
    except SegserveError as error:
        assert error.field in ("file", "page")  # noqa: PT017
        assert error.remedy  # noqa: PT017


class TestFuzz:
    @LIGHT
    @given(st.sampled_from([b"", *(data[:12] for data in VALID)]), st.binary(max_size=300), st.integers(0, 3))
    def test_random_bytes(self, start: bytes, rest: bytes, page: int) -> None:
        must_not_crash(start + rest, page)

    @settings(LIGHT, max_examples=1000)
    @given(
        st.sampled_from(VALID),
        st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
        st.sampled_from([64, 512, 1 << 20]),
        st.integers(0, 2),
    )
    def test_changed_bytes(
        self, valid: bytes, changes: list[tuple[float, int]], within: int, page: int
    ) -> None:
        """Change bytes at the start, where headers are, or anywhere."""
        data = bytearray(valid)
        for position, value in changes:
            data[int(position * min(within, len(data)))] = value
        must_not_crash(bytes(data), page)

    @settings(LIGHT, max_examples=600)
    @given(
        st.sampled_from([data for data in VALID if data[:2] in (b"II", b"MM")]),
        st.integers(0, 20),
        st.integers(0, 11),
        st.sampled_from([0, 1, 2, 7, 12, 0x7F, 0xFF]),
        st.integers(0, 1),
    )
    def test_changed_tags(self, valid: bytes, entry: int, at: int, value: int, page: int) -> None:
        data = bytearray(valid)
        order = "<" if data[:2] == b"II" else ">"
        (start,) = struct.unpack_from(order + "I", data, 4)
        data[(start + 2 + 12 * entry + at) % len(data)] = value
        must_not_crash(bytes(data), page)

    @pytest.mark.parametrize("valid", VALID)
    def test_damage_costs_no_references(self, valid: bytes) -> None:
        """Before Python 3.12 a codec that drops a reference to None ends the process after some thousand files."""
        must_not_crash(valid[:-60], 0)
        gc.collect()  # objects left by earlier tests hold references too
        before = sys.getrefcount(None)
        for _ in range(300):
            must_not_crash(valid[:-60], 0)
        assert before - sys.getrefcount(None) < 200
