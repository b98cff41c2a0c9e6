"""The layout of JPEG streams is found as libjpeg finds it, and files that cost minutes are refused."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from segserve.errors import BadInput, TooLarge
from segserve.images.raster import jpeg_layout
from segserve.images.raster.jpeg_layout import (
    MAX_JPEG_JUNK_BYTES,
    MAX_JPEG_SCANS,
    MAX_JPEG_SEGMENTS,
    read_jpeg_layout,
)
from segserve.images.read_image import open_image
from tests.images.decoding import RGB, RNG, expect_refusal, read
from tests.images.sample_images import save_image, write_tiff

FRAME = b"\xff\xc2\0\x0b\x08\0\x10\0\x20\x01\x01\x11\0"
EMPTY_SCAN = b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0"
END = b"\xff\xd9"
LIMIT = 10**9


def layout_of(data: bytes) -> jpeg_layout.JpegLayout:
    return read_jpeg_layout(io.BytesIO(data))


def with_scans(data: bytes, count: int) -> bytes:
    """Return a JPEG with `count` more scans without data at its end."""
    assert data.endswith(END)
    return data.removesuffix(END) + EMPTY_SCAN * count + END


def progressive(side: int, **options: object) -> bytes:
    return save_image(Image.new("RGB", (side, side)), "JPEG", progressive=True, **options)


class TestLayout:
    def test_finds_every_frame(self) -> None:
        stream = b"\xff\xd8\xff\xe0\0\x04ab" + b"junk" + b"\xff" + FRAME + FRAME + b"\xff\xda\0\x03\0"
        assert layout_of(stream[:-5]).frames == ((16, 32), (16, 32))
        with pytest.raises(BadInput):  # a scan without components
            layout_of(stream)

    @pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xc4"])
    def test_a_stream_without_image(self, data: bytes) -> None:
        assert layout_of(data).frames == ()

    def test_an_image_in_one_scan_is_not_read_to_its_end(self) -> None:
        layout = layout_of(save_image(Image.fromarray(RGB), "JPEG"))
        assert (layout.scans, layout.has_many_scans, layout.coefficient_bytes) == (1, False, 0)

    def test_counts_blocks_by_component(self) -> None:
        """32 x 16 pixels in 4:2:0: two groups of four, one and one block; ten scans of usual progressive files."""
        layout = layout_of(save_image(Image.new("RGB", (32, 16)), "JPEG", progressive=True, subsampling=2))
        assert (layout.scans, layout.coefficient_bytes) == (10, 12 * 128)
        # Two scans of all blocks, four of the brightness's, two of each colour's.
        assert layout.scan_blocks == 2 * 12 + 4 * 8 + 2 * (2 + 2)

    @pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7])
    def test_chunks_are_joined(self, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
        data = with_scans(save_image(Image.fromarray(np.tile(RGB, (9, 9, 1))), "JPEG", progressive=True), 7)
        expected = layout_of(data)
        monkeypatch.setattr(jpeg_layout, "_CHUNK_BYTES", chunk_bytes)
        assert layout_of(data) == expected
        assert expected.scans == 17

    def test_scans_in_metadata_and_after_the_end_do_not_count(self) -> None:
        """Thumbnails lie in metadata, and the films of phones after the image."""
        many = EMPTY_SCAN * 600
        note = b"\xff\xe1" + struct.pack(">H", 2 + len(many)) + many
        data = progressive(64)
        assert layout_of(data[:2] + note + data[2:] + many).scans == layout_of(data).scans


class TestLimits:
    def test_scans(self) -> None:
        data = progressive(64)
        more = MAX_JPEG_SCANS - layout_of(data).scans
        assert read(with_scans(data, more)).shape == (64, 64, 3)
        assert "scans" in str(expect_refusal(with_scans(data, more + 1), TooLarge))

    @pytest.mark.parametrize("junk", [b"\xff", b"\xff\xff", b"junk", b"\xff\0", b"\xff\xd3", b"\xff\x01"])
    def test_scans_between_what_libjpeg_skips(self, junk: bytes) -> None:
        data = progressive(64)
        scans = (junk + EMPTY_SCAN) * (MAX_JPEG_SCANS + 1)
        expect_refusal(data.removesuffix(END) + scans + END, TooLarge)
        expect_refusal(data.removesuffix(END) + scans, TooLarge)

    def test_scans_of_a_baseline_image(self) -> None:
        """A scan for each component, again and again: libjpeg keeps all coefficients of such an image."""
        data = save_image(Image.fromarray(RGB), "JPEG", subsampling=0)
        start = data.index(b"\xff\xda")
        scan = data[start:].removesuffix(END)
        single = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + scan[14:]
        layered = data[:start] + single * 3 + END
        source = open_image(io.BytesIO(layered), 0, LIMIT, LIMIT)
        assert source.bands is None
        with pytest.raises(TooLarge):  # by the limit for images read at once
            open_image(io.BytesIO(layered), 0, RGB.shape[0] * RGB.shape[1] - 1, LIMIT)
        expect_refusal(data[:start] + single * (MAX_JPEG_SCANS + 1) + END, TooLarge)

    def test_scans_of_components_with_the_same_id(self) -> None:
        frame = b"\xff\xc2\0\x11\x08\x10\0\x10\0\x03" + b"\x01\x11\0" * 3
        layout = layout_of(b"\xff\xd8" + frame + EMPTY_SCAN + END)
        assert layout.scan_blocks == 512 * 512
        assert layout.coefficient_bytes == 3 * 512 * 512 * 128

    def test_scans_by_the_size_of_the_image(self) -> None:
        """A large image may have fewer scans: 4096 x 4096 pixels in 256 scans of all three components, and no more."""
        frame = b"\xff\xc2\0\x11\x08\x10\0\x10\0\x03" + b"\x01\x11\0\x02\x11\0\x03\x11\0"
        scan = b"\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\0\0"
        start = b"\xff\xd8" + frame
        count = jpeg_layout.MAX_JPEG_SCAN_BLOCKS // (3 * 512 * 512)
        assert layout_of(start + scan * count + END).scans == count
        with pytest.raises(TooLarge):
            layout_of(start + scan * (count + 1) + END)
        with pytest.raises(TooLarge):  # arithmetic coding takes longer
            layout_of(start.replace(b"\xff\xc2", b"\xff\xca") + scan * (count // 16 + 1) + END)

    def test_the_largest_image_in_usual_scans_passes(self) -> None:
        """256 megapixels without subsampling: of each component, two scans of DC and four of AC."""
        frame = b"\xff\xc2\0\x11\x08\x3e\x80\x3e\x80\x03" + b"\x01\x11\0\x02\x11\0\x03\x11\0"
        dc = b"\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\0\0"
        ac = b"".join(b"\xff\xda\0\x08\x01" + bytes([number]) + b"\0\x01\x3f\0" for number in (1, 2, 3))
        assert layout_of(b"\xff\xd8" + frame + dc * 2 + ac * 4 + END).scans == 14

    def test_segments(self) -> None:
        data = save_image(Image.fromarray(RGB), "JPEG")
        comments = b"\xff\xfe\0\x02" * (MAX_JPEG_SEGMENTS + 1)
        expect_refusal(data[:2] + comments + data[2:], TooLarge)
        late = progressive(64)
        at = late.index(b"\xff\xda")
        expect_refusal(late[:at] + comments + late[at:], TooLarge)

    @pytest.mark.parametrize("junk", [b"a", b"\xff", b"\xff\0", b"\xff\xd0"])
    def test_bytes_between_segments(self, junk: bytes) -> None:
        data = save_image(Image.fromarray(RGB), "JPEG")
        padding = junk * (MAX_JPEG_JUNK_BYTES // len(junk) + 1)
        expect_refusal(data[:20] + padding + data[20:], TooLarge)  # after the first segment

    def test_scans_within_tiff(self) -> None:
        noise = RNG.integers(0, 256, (600, 600, 3), np.uint8)
        data = write_tiff(noise, photometric="rgb", compression="jpeg", rowsperstrip=600)
        many = b"\xff\xd8" + FRAME + EMPTY_SCAN * (MAX_JPEG_SCANS + 1) + END
        start = data.index(b"\xff\xc0") - 2
        expect_refusal(data[:start] + many + data[start + len(many) :], TooLarge)
