"""Frame headers of JPEG streams are found as libjpeg finds them."""

from segserve.images.raster.jpeg_header import read_frame_sizes


class TestFrameSizes:
    def test_finds_every_frame(self) -> None:
        frame = b"\xff\xc2\0\x0b\x08\0\x10\0\x20\x01\x01\x11\0"
        stream = b"\xff\xd8\xff\xe0\0\x04ab" + b"junk" + b"\xff" + frame + frame + b"\xff\xda\0\x02"
        assert read_frame_sizes(stream + frame) == [(16, 32), (16, 32)]

    def test_ends(self) -> None:
        assert (
            read_frame_sizes(b"")
            == read_frame_sizes(b"\xff\xd8\xff")
            == read_frame_sizes(b"\xff\xd8\xff\xd9")
            == []
        )
