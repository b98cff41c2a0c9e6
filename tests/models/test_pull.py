"""Downloads against a server on this machine: whole, wrong, broken off, gone on with, gone."""

import hashlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import xxhash

from segserve.errors import BadInput, BrokenModel, NotFound, TooLarge, Unavailable
from segserve.models import pull as module
from segserve.models.bundle import Bundle
from segserve.models.catalogue import PUBLISHED_MODELS, find_published_model
from segserve.models.download import Digest, check_https, download
from segserve.models.importers.import_request import CheckpointKind
from segserve.models.importers.onnx_pair import OnnxPairKind
from segserve.models.manifest import BundleRuntime, ModelKind
from segserve.models.published_model import PublishedModel, RemoteFile
from segserve.models.pull import pull_model
from segserve.models.registry import BUILT_IN_MODELS

CONTENT = bytes(range(256)) * 4000
SHA256 = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())


@dataclass
class Origin:
    """A file server whose ways can be set. requests: the headers of each."""

    address: str = ""
    content: bytes = CONTENT
    files: dict[str, bytes] = field(default_factory=dict)  # by name, in the place of content
    etag: str = '"1"'
    stop_after: int | None = None  # bytes of the body, then the connection breaks
    says_length: bool = True
    status: int = 200
    location: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)

    def url(self, name: str = "model.pth") -> str:
        return f"{self.address}/{name}"


def handler(origin: Origin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            origin.requests.append(dict(self.headers))
            if origin.status != 200:
                self.send_response(origin.status)
                if origin.location:
                    self.send_header("Location", origin.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = origin.files.get(self.path[1:], origin.content)
            start, total = 0, len(content)
            wanted = self.headers.get("Range")
            if wanted and self.headers.get("If-Range") == origin.etag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.send_header("ETag", origin.etag)
            if origin.says_length:
                self.send_header("Content-Length", str(total - start))
            self.end_headers()
            self.wfile.write(content[start : start + (origin.stop_after or total)])

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def origin() -> Iterator[Origin]:
    origin = Origin()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(origin))
    origin.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield origin
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_good_file_arrives_and_progress_is_told(origin: Origin, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    target = tmp_path / "folder" / "model.pth"
    download(origin.url(), target, SHA256, on_bytes=lambda done, total: told.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in target.parent.iterdir()] == ["model.pth"]


def test_xxh128_is_known(origin: Origin, tmp_path: Path) -> None:
    digest = Digest.parse(f"xxh128:{xxhash.xxh128(CONTENT).hexdigest()}")
    download(origin.url(), tmp_path / "m", digest)
    assert (tmp_path / "m").exists()


def test_a_file_with_another_digest_is_deleted(origin: Origin, tmp_path: Path) -> None:
    origin.content = b"something else"
    with pytest.raises(BrokenModel, match="does not have the published sha256 digest"):
        download(origin.url(), tmp_path / "m", SHA256)
    assert not list(tmp_path.iterdir())


def test_a_truncated_file_is_kept_and_gone_on_with(origin: Origin, tmp_path: Path) -> None:
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


def test_a_file_that_changed_meanwhile_is_fetched_anew(origin: Origin, tmp_path: Path) -> None:
    origin.stop_after = 1000
    with pytest.raises(Unavailable):
        download(origin.url(), tmp_path / "m", None)
    origin.stop_after, origin.etag, origin.content = None, '"2"', CONTENT[::-1]
    download(origin.url(), tmp_path / "m", Digest("sha256", hashlib.sha256(CONTENT[::-1]).hexdigest()))
    assert (tmp_path / "m").read_bytes() == CONTENT[::-1]


def test_a_part_of_another_address_is_not_gone_on_with(origin: Origin, tmp_path: Path) -> None:
    origin.stop_after = 1000
    with pytest.raises(Unavailable):
        download(origin.url("old"), tmp_path / "m", None)
    origin.stop_after = None
    download(origin.url("new"), tmp_path / "m", SHA256)
    assert "Range" not in origin.requests[1]


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (410, NotFound), (500, Unavailable), (403, Unavailable)]
)
def test_what_the_server_refuses_is_said(
    origin: Origin, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    origin.status = status
    with pytest.raises(error, match=str(status)):
        download(origin.url(), tmp_path / "m", SHA256)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_over_the_limit_is_not_kept(origin: Origin, tmp_path: Path, says_length: bool) -> None:
    origin.says_length = says_length
    with pytest.raises(TooLarge):
        download(origin.url(), tmp_path / "m", SHA256, max_bytes=1000)
    assert not list(tmp_path.iterdir())


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="broke off"):
        download("http://127.0.0.1:1/m", tmp_path / "m", SHA256)


def test_only_https_and_this_machine(origin: Origin, tmp_path: Path) -> None:
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


def entry(
    origin: Origin, digest: str | None, kind: CheckpointKind | OnnxPairKind = CheckpointKind.SAM
) -> PublishedModel:
    return PublishedModel("small", kind, (RemoteFile(origin.url(), digest),), "", "", "")


def test_a_failed_import_keeps_the_download_and_a_second_pull_uses_it(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "require_libraries", lambda kind: None)
    imported: list[Path] = []

    def fail(kind: str, path: Path, *args: object, **kwargs: object) -> Bundle:
        imported.append(path)
        assert path.read_bytes() == CONTENT
        raise BadInput("no checkpoint")

    monkeypatch.setattr(module, "import_checkpoint", fail)
    for _ in range(2):
        with pytest.raises(BadInput, match="no checkpoint"):
            pull_model(entry(origin, f"sha256:{SHA256.value}"), tmp_path)
    assert len(origin.requests) == 1
    assert imported[0] == imported[1]


def test_an_automatic_decoder_of_its_own_file_comes_along(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "require_libraries", lambda kind: None)
    origin.files = {"vit_b.pt": b"model", "vit_b_decoder.pt": b"decoder"}
    files = tuple(
        RemoteFile(origin.url(name), f"xxh128:{xxhash.xxh128(content).hexdigest()}")
        for name, content in origin.files.items()
    )
    built_in = Bundle(BUILT_IN_MODELS / "starter")

    def take(kind: str, path: Path, *args: object, decoder: Path, **kwargs: object) -> Bundle:
        assert (kind, path.read_bytes(), decoder.read_bytes()) == ("micro_sam", b"model", b"decoder")
        return built_in

    monkeypatch.setattr(module, "import_checkpoint", take)
    pull_model(PublishedModel("small", CheckpointKind.MICRO_SAM, files, "", "", ""), tmp_path)
    assert len(origin.requests) == 2
    assert not list((tmp_path / module.DOWNLOADS_FOLDER).iterdir())


def test_without_a_digest_it_must_be_asked_for(origin: Origin, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(BadInput, match="--no-digest"):
        pull_model(entry(origin, None), tmp_path)
    assert not origin.requests


def test_a_taken_name_is_refused_before_the_download(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with pytest.raises(BadInput, match="already a model"):
        pull_model(entry(origin, f"sha256:{SHA256.value}"), tmp_path)
    assert not origin.requests


def test_a_published_pair_becomes_a_model(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small bundle that ships with the package stands in for a published pair."""
    built_in = Bundle(BUILT_IN_MODELS / "starter")
    size = built_in.manifest.preprocess.input_size
    monkeypatch.setattr(module, "import_onnx_pair", partial(module.import_onnx_pair, input_size=size))
    origin.files = {name: built_in.path(name).read_bytes() for name in ("encoder.onnx", "decoder.onnx")}
    files = tuple(
        RemoteFile(origin.url(name), f"sha256:{hashlib.sha256(content).hexdigest()}")
        for name, content in origin.files.items()
    )
    told: list[str] = []

    def on_file(file: RemoteFile) -> module.OnBytes:
        told.append(file.url)
        return lambda done, total: None

    wanted = PublishedModel("pair", OnnxPairKind.SAM, files, "a pair", "Apache-2.0", "here")
    bundle = pull_model(wanted, tmp_path, name="mine", on_file=on_file, on_stage=told.append)
    assert told == [
        *(file.url for file in files),
        "copying the graphs",
        "clicking once",
        "putting it in place",
    ]
    manifest = bundle.manifest
    assert (manifest.name, manifest.runtime, manifest.source) == ("mine", BundleRuntime.STOCK, "here")
    assert manifest.dims == built_in.manifest.dims
    bundle.verify()
    assert not list((tmp_path / ".downloads").iterdir())


def test_mask_rcnn_is_pulled_by_its_name(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small network stands in for the published one; all else is what the catalogue says."""
    torch = pytest.importorskip("torch")
    from segserve.models.importers import mask_rcnn
    from tests.instances.networks import small, untrained

    file = io.BytesIO()
    torch.save(small().state_dict(), file)
    origin.content = file.getvalue()
    monkeypatch.setattr(mask_rcnn, "VARIANTS", {"resnet50_fpn": untrained})
    entry = find_published_model("mask-rcnn-resnet50-fpn")
    assert Path(entry.files[0].url).stem.endswith(Digest.parse(str(entry.files[0].digest)).value[:8])
    digest = f"sha256:{hashlib.sha256(origin.content).hexdigest()}"
    bundle = pull_model(replace(entry, files=(RemoteFile(origin.url(), digest),)), tmp_path)
    assert (bundle.name, bundle.manifest.kind, bundle.manifest.licence) == (
        "mask-rcnn-resnet50-fpn",
        ModelKind.INSTANCES,
        "BSD-3-Clause",
    )


def test_every_published_entry_can_be_pulled() -> None:
    assert len({e.name for e in PUBLISHED_MODELS}) == len(PUBLISHED_MODELS)
    for each in PUBLISHED_MODELS:
        assert len(each.files) == (2 if each.kind in (*OnnxPairKind, CheckpointKind.MICRO_SAM) else 1)
        for file in each.files:
            check_https(file.url)
            assert file.url.startswith("https://")
            if file.digest:
                digest = Digest.parse(file.digest)
                assert len(digest.value) == {"sha256": 64, "xxh128": 32}[digest.algorithm]
    assert [e.name for e in PUBLISHED_MODELS if any(f.digest is None for f in e.files)] == ["medsam"]
    with pytest.raises(BadInput, match="Known: sam_vit_b"):
        find_published_model("nonsense")
