"""A file's format is detected by its content; unknown formats are refused."""

import gzip
from pathlib import Path

import pytest

from segserve.errors import BadInput, UnsupportedFormat
from tests.files import sample_files
from tests.files.sample_files import probe


def test_playlists_that_name_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(sample_files.encode_frame(0))
    for name, text in {
        "list.m3u8": "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "list.ffconcat": "ffconcat version 1.0\nfile 'secret.png'\n",
        "list.sdp": "v=0\nm=video 0 RTP/AVP 96\n",
    }.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(UnsupportedFormat):
            probe(path)


@pytest.mark.parametrize(
    "data", [b"", b"hello", gzip.compress(b"hello", mtime=0), b"PK\3\4garbage", b"GIF89a", b"\0" * 400]
)
def test_unknown_formats_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(BadInput):
        probe(path)


def test_a_picture_is_refused_by_its_name(tmp_path: Path) -> None:
    """HEIC is in a container of videos, whose reader would take its first tile."""
    pictures = {
        "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(90),
        "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf" + bytes(90),
        "PNG": sample_files.encode_frame(0),
    }
    for name, data in pictures.items():
        path = tmp_path / "x"
        path.write_bytes(data)
        with pytest.raises(UnsupportedFormat, match=rf"one picture \({name}\)") as refused:
            probe(path)
        assert "/v1/images" in refused.value.remedy
