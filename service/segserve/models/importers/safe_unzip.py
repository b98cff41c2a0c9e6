"""Reading zip archives from strangers: nothing leaves the folder, nothing is larger than it may be."""

import stat
import zipfile
from pathlib import Path, PurePosixPath

from segserve.errors import BadInput, TooLarge

MAX_FILES = 1000
MAX_BYTES = 4 << 30  # unpacked
CHUNK = 1 << 20


def unpack_zip(archive: Path, folder: Path) -> None:
    """Raises BadInput for what is no sound zip, or names files outside the folder, links or devices; TooLarge where
    more comes out than is allowed, whatever the archive says of itself. Files already written stay in `folder`,
    which the caller throws away."""
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            if len(entries) > MAX_FILES:
                raise TooLarge(f"{archive.name} holds {len(entries)} files.", field="checkpoint")
            left = MAX_BYTES
            for entry in entries:
                left = unpack_entry(opened, entry, folder, left)
    except BadInput:
        raise
    except Exception as error:  # zipfile and zlib raise nearly everything when given damaged bytes
        raise BadInput(
            f"{archive.name} cannot be read as a zip archive.",
            field="checkpoint",
            remedy="Is the download complete?",
        ) from error


def unpack_entry(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, left: int) -> int:
    """Unpack one file of at most `left` bytes; how many are left after it."""
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
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise TooLarge(
                    f"The archive unpacks to more than {MAX_BYTES >> 30} GiB.",
                    field="checkpoint",
                    remedy="Import the weights alone.",
                )
            file.write(chunk)
    return left


def resolve_inside(folder: Path, name: str) -> Path:
    """A file of an unpacked package. Raises BadInput where it lies elsewhere or does not exist."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise BadInput(
            f"The package names {name!r}, and has no such file.",
            field="checkpoint",
            remedy="Only packages that hold all their files are read.",
        )
    return path
