"""Unpack zip archives from strangers.

No file is written outside the folder (zip slip), and no archive unpacks to more than a limit (zip bomb).
"""

import stat
import zipfile
from pathlib import Path, PurePosixPath

from segserve.errors import BadInput, TooLarge
from segserve.models.importers.zip_packing import is_safely_packed

MAX_FILES = 1000
# Of all files together, unpacked.
MAX_BYTES = 4 << 30
CHUNK_BYTES = 1 << 20


def unpack_untrusted_zip(archive: Path, folder: Path) -> None:
    """Unpack an archive into `folder`.

    Raises BadInput for a damaged zip, or one with links, devices or names outside the folder. Raises TooLarge where
    the unpacked bytes exceed the limit, whatever sizes the archive names. After an error the files written so far stay
    in `folder`; the caller deletes it.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            if len(entries) > MAX_FILES:
                raise TooLarge(f"{archive.name} holds {len(entries)} files.", field="checkpoint")
            budget_bytes = MAX_BYTES
            for entry in entries:
                budget_bytes = unpack_entry(opened, entry, folder, budget_bytes)
    except BadInput:
        raise
    except Exception as error:  # for damaged bytes zipfile and zlib raise many types
        raise BadInput(
            f"{archive.name} cannot be read as a zip archive.",
            field="checkpoint",
            remedy="Is the download complete?",
        ) from error


def unpack_entry(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, budget_bytes: int) -> int:
    """Unpack one file of at most `budget_bytes`. Returns the rest of the budget. Raises BadInput, TooLarge."""
    name = PurePosixPath(entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or "\\" in entry.filename or ":" in entry.filename:
        raise BadInput(
            f"The archive names a file outside of itself: {entry.filename!r}.",
            field="checkpoint",
            remedy="Do not use it: no honest tool writes such an archive.",
        )
    if kind not in (0, stat.S_IFREG):
        raise BadInput(
            f"The archive holds {entry.filename!r}, which is no plain file.",
            field="checkpoint",
            remedy="Pack it again without links.",
        )
    if not is_safely_packed(entry):
        raise BadInput(
            f"The archive packs {entry.filename!r} by bzip2 or LZMA.",
            field="checkpoint",
            remedy="Pack it again as a common zip archive, by DEFLATE.",
        )
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            budget_bytes -= len(chunk)
            if budget_bytes < 0:
                raise TooLarge(
                    f"The archive unpacks to more than {MAX_BYTES >> 30} GiB.",
                    field="checkpoint",
                    remedy="Import the weights alone.",
                )
            file.write(chunk)
    return budget_bytes


def resolve_inside(folder: Path, name: str) -> Path:
    """Return the path of a package's file. Raises BadInput where it lies outside `folder` or does not exist."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise BadInput(
            f"The package names {name!r}, and has no such file.",
            field="checkpoint",
            remedy="Only packages that hold all their files are read.",
        )
    return path
