"""Zip archives from strangers: zip slip, links, zip bombs and damage are refused and leave nothing."""

import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bioimageio.core")


from segserve.errors import BadInput, TooLarge
from segserve.models.importers import safe_unzip
from tests.models.importers.bioimageio_packages import PYDANTIC_SKIP, import_package, is_empty, write_package

pytestmark = PYDANTIC_SKIP


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("package"))


def write_zip(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def make_link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:evil"])
def test_a_name_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "p.zip", ("rdf.yaml", b"type: model"), (name, b"evil"))
    with pytest.raises(BadInput, match="outside of itself"):
        import_package(path, tmp_path)
    assert is_empty(tmp_path / "models")
    assert not list(tmp_path.rglob("*evil*"))


def test_links_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", (make_link("rdf.yaml"), b"/etc/passwd"))
    with pytest.raises(BadInput, match="no plain file"):
        import_package(path, tmp_path)
    assert is_empty(tmp_path / "models")


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_that_are_unpacked_at_once_are_refused(tmp_path: Path, packing: int) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w", packing) as archive:
        archive.writestr("rdf.yaml", b"type: model")
    with pytest.raises(BadInput, match="by bzip2 or LZMA"):
        import_package(tmp_path / "p.zip", tmp_path)
    assert is_empty(tmp_path / "models")


def test_a_zip_bomb_is_stopped_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_unzip, "MAX_BYTES", 1 << 20)
    path = write_zip(tmp_path / "p.zip", ("rdf.yaml", b"type: model"), ("zeros", bytes(10 << 20)))
    with pytest.raises(TooLarge, match="unpacks to more"):
        import_package(path, tmp_path)
    monkeypatch.setattr(safe_unzip, "MAX_FILES", 3)
    many = write_zip(tmp_path / "m.zip", *((str(n), b"") for n in range(4)))
    with pytest.raises(TooLarge, match="4 files"):
        import_package(many, tmp_path)
    assert is_empty(tmp_path / "models")


def test_an_archive_with_a_false_size_is_refused(tmp_path: Path) -> None:
    """The header says 10 bytes; a megabyte comes out."""
    path = write_zip(tmp_path / "p.zip", ("rdf.yaml", bytes(1 << 20)))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.index(signature) + offset
        data[start : start + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BadInput):
        import_package(path, tmp_path)
    assert is_empty(tmp_path / "models")


def test_a_damaged_archive_is_refused(zipped: Path, tmp_path: Path) -> None:
    data, path = zipped.read_bytes(), tmp_path / "p.zip"
    flipped = bytearray(data)
    for position in range(2000, min(len(data) - 200, 40_000), 500):
        flipped[position] ^= 0xFF
    for damaged in (b"", b"no zip", data[: len(data) // 2], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(BadInput):
            import_package(path, tmp_path)
    with pytest.raises(BadInput):
        import_package(tmp_path / "absent.zip", tmp_path)
    assert is_empty(tmp_path / "models")


def test_a_folder_whose_links_lead_outside_is_refused(zipped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(folder)
    weights = next(folder.rglob("*.onnx"))
    weights.rename(tmp_path / "elsewhere.onnx")
    weights.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BadInput, match="no such file"):
        import_package(folder, tmp_path)
    assert is_empty(tmp_path / "models")
