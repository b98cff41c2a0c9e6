"""Downloads from a server on this machine: complete, wrong, broken off, resumed, gone."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from segserve.errors import BadInput, BrokenModel, NotFound, TooLarge, Unavailable
from segserve.models.download import Digest, check_https, download
from tests.models.file_server import CONTENT, FileServer, serve_files

SHA256 = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def origin() -> Iterator[FileServer]:
    with serve_files() as server:
        yield server


def test_a_good_file_arrives_and_its_progress_is_reported(origin: FileServer, tmp_path: Path) -> None:
    progress: list[tuple[int, int | None]] = []
    target = tmp_path / "folder" / "model.pth"
    download(origin.url(), target, SHA256, on_bytes=lambda done, total: progress.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in target.parent.iterdir()] == ["model.pth"]


def test_xxh128_digests_are_checked(origin: FileServer, tmp_path: Path) -> None:
    digest = Digest.parse(f"xxh128:{xxhash.xxh128(CONTENT).hexdigest()}")
    download(origin.url(), tmp_path / "m", digest)
    assert (tmp_path / "m").exists()


def test_a_file_with_another_digest_is_deleted(origin: FileServer, tmp_path: Path) -> None:
    origin.content = b"something else"
    with pytest.raises(BrokenModel, match="does not have the published sha256 digest"):
        download(origin.url(), tmp_path / "m", SHA256)
    assert not list(tmp_path.iterdir())


def test_a_truncated_file_is_kept_and_resumed(origin: FileServer, tmp_path: Path) -> None:
    origin.stop_after = 300_000
    with pytest.raises(Unavailable, match="Run the command again"):
        download(origin.url(), tmp_path / "m", SHA256)
    assert not (tmp_path / "m").exists()
    assert (tmp_path / "m.partial").stat().st_size == 300_000
    origin.stop_after = None
    download(origin.url(), tmp_path / "m", SHA256)
    assert origin.requests[1]["Range"] == "bytes=300000-"
    assert origin.requests[1]["If-Range"] == '"1"'
    assert (tmp_path / "m").read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_file_that_changed_meanwhile_is_downloaded_again(origin: FileServer, tmp_path: Path) -> None:
    origin.stop_after = 1000
    with pytest.raises(Unavailable):
        download(origin.url(), tmp_path / "m", None)
    origin.stop_after, origin.etag, origin.content = None, '"2"', CONTENT[::-1]
    download(origin.url(), tmp_path / "m", Digest("sha256", hashlib.sha256(CONTENT[::-1]).hexdigest()))
    assert (tmp_path / "m").read_bytes() == CONTENT[::-1]


def test_a_part_from_another_address_is_not_resumed(origin: FileServer, tmp_path: Path) -> None:
    origin.stop_after = 1000
    with pytest.raises(Unavailable):
        download(origin.url("old"), tmp_path / "m", None)
    origin.stop_after = None
    download(origin.url("new"), tmp_path / "m", SHA256)
    assert "Range" not in origin.requests[1]


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (410, NotFound), (500, Unavailable), (403, Unavailable)]
)
def test_the_error_names_the_status_of_the_server(
    origin: FileServer, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    origin.status = status
    with pytest.raises(error, match=str(status)):
        download(origin.url(), tmp_path / "m", SHA256)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_over_the_limit_is_not_kept(origin: FileServer, tmp_path: Path, says_length: bool) -> None:
    origin.says_length = says_length
    with pytest.raises(TooLarge):
        download(origin.url(), tmp_path / "m", SHA256, max_bytes=1000)
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_down_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="broke off"):
        download("http://127.0.0.1:1/m", tmp_path / "m", SHA256)


def test_only_https_and_loopback_addresses_are_fetched(origin: FileServer, tmp_path: Path) -> None:
    for url in (
        "http://example.org/m",
        "ftp://example.org/m",
        "file:///etc/passwd",
        "http://127.0.0.1.example.org/",
    ):
        with pytest.raises(BadInput, match="not an https address"):
            download(url, tmp_path / "m", SHA256)
    for url in ("https://example.org/m", "http://localhost:80/m", "http://[::1]/m"):
        check_https(url)
    origin.status, origin.location = 302, "http://example.org/elsewhere"
    with pytest.raises(BadInput, match="not an https address"):
        download(origin.url(), tmp_path / "m", SHA256)
