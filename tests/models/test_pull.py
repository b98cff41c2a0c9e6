"""A published model is downloaded and imported; a failure keeps what was downloaded."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from segserve.errors import BadInput
from segserve.models import pull as module
from segserve.models.bundle import Bundle
from segserve.models.catalogue import find_published_model
from segserve.models.download import Digest, OnBytes
from segserve.models.importers.import_request import CheckpointKind, OnnxPairKind
from segserve.models.manifest import BundleRuntime, ModelKind
from segserve.models.published_model import PublishedModel, RemoteFile
from segserve.models.pull import pull_model
from segserve.models.registry import BUILT_IN_MODELS
from tests.models.file_server import CONTENT, FileServer, serve_files

SHA256 = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def origin() -> Iterator[FileServer]:
    with serve_files() as server:
        yield server


def make_entry(
    origin: FileServer, digest: str | None, kind: CheckpointKind | OnnxPairKind = CheckpointKind.SAM
) -> PublishedModel:
    return PublishedModel("small", kind, (RemoteFile(origin.url(), digest),), "", "", "", suits=())


def test_a_failed_import_keeps_the_download_and_a_second_pull_uses_it(
    origin: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "require_import_libraries", lambda kind, **options: None)
    imported: list[Path] = []

    def fail(kind: str, path: Path, *args: object, **kwargs: object) -> Bundle:
        imported.append(path)
        assert path.read_bytes() == CONTENT
        raise BadInput("no checkpoint")

    monkeypatch.setattr(module, "import_checkpoint", fail)
    for _ in range(2):
        with pytest.raises(BadInput, match="no checkpoint"):
            pull_model(make_entry(origin, f"sha256:{SHA256.value}"), tmp_path)
    assert len(origin.requests) == 1
    assert imported[0] == imported[1]


def test_the_file_of_an_automatic_decoder_is_downloaded_too(
    origin: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "require_import_libraries", lambda kind, **options: None)
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
    pull_model(PublishedModel("small", CheckpointKind.MICRO_SAM, files, "", "", "", suits=()), tmp_path)
    assert len(origin.requests) == 2
    assert not list((tmp_path / module.DOWNLOADS_FOLDER).iterdir())


def test_a_model_without_a_digest_needs_no_digest_option(origin: FileServer, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(BadInput, match="--no-digest"):
        pull_model(make_entry(origin, None), tmp_path)
    assert not origin.requests


def test_a_taken_name_is_refused_before_the_download(origin: FileServer, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with pytest.raises(BadInput, match="already a model"):
        pull_model(make_entry(origin, f"sha256:{SHA256.value}"), tmp_path)
    assert not origin.requests


def test_a_published_pair_becomes_a_model(
    origin: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The starter's graphs replace a published pair."""
    built_in = Bundle(BUILT_IN_MODELS / "starter")
    origin.files = {name: built_in.path(name).read_bytes() for name in ("encoder.onnx", "decoder.onnx")}
    files = tuple(
        RemoteFile(origin.url(name), f"sha256:{hashlib.sha256(content).hexdigest()}")
        for name, content in origin.files.items()
    )
    events: list[str] = []

    def on_file(file: RemoteFile) -> OnBytes:
        events.append(file.name)
        return lambda done, total: None

    published = PublishedModel("pair", OnnxPairKind.SAM, files, "a pair", "Apache-2.0", "here", suits=())
    bundle = pull_model(published, tmp_path, name="mine", on_file=on_file, on_stage=events.append)
    assert events == [
        *(file.name for file in files),
        "reading the graphs",
        "clicking once",
        "putting it in place",
    ]
    manifest = bundle.manifest
    assert (manifest.name, manifest.runtime, manifest.source) == ("mine", BundleRuntime.STOCK, "here")
    assert manifest.dims == built_in.manifest.dims
    bundle.verify()
    assert not list((tmp_path / ".downloads").iterdir())


def test_mask_rcnn_is_pulled_by_its_name(
    origin: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small network replaces the published one; everything else is from the catalogue."""
    torch = pytest.importorskip("torch")
    from segserve.models.importers import mask_rcnn
    from tests.instances.networks import small, untrained

    file = io.BytesIO()
    torch.save(small().state_dict(), file)
    origin.content = file.getvalue()
    monkeypatch.setattr(mask_rcnn, "VARIANTS", {"resnet50_fpn": untrained})
    make_entry = find_published_model("mask-rcnn-resnet50-fpn")
    assert Path(make_entry.files[0].name).stem.endswith(
        Digest.parse(str(make_entry.files[0].digest)).value[:8]
    )
    digest = f"sha256:{hashlib.sha256(origin.content).hexdigest()}"
    bundle = pull_model(replace(make_entry, files=(RemoteFile(origin.url(), digest),)), tmp_path)
    assert (bundle.name, bundle.manifest.kind, bundle.manifest.licence) == (
        "mask-rcnn-resnet50-fpn",
        ModelKind.INSTANCES,
        "BSD-3-Clause",
    )
