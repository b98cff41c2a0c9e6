"""A folder that is given where a file is expected: its files as one zip, for the time of a command."""

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segserve.errors import BadInput

# Hidden files that belong to what is in a folder: metadata of Zarr 2.
METADATA_FILES = {".zattrs", ".zarray", ".zgroup", ".zmetadata"}


@contextmanager
def zip_if_folder(path: Path) -> Iterator[Path]:
    """Yield a file as it is; of a folder, a temporary zip of all files below it.

    The files are not compressed: DICOM's large ones are already, and the zip is sent once. The same files make the
    same bytes. Hidden files, but for METADATA_FILES, and links are left out.

    Raises BadInput for a folder without files.
    """
    if not path.is_dir():
        yield path
        return
    files = sorted(list_files(path))
    if not files:
        raise BadInput(
            "The folder has no files.", field=str(path), remedy="Name the folder of a DICOM series."
        )
    with tempfile.TemporaryDirectory() as folder:
        zipped = Path(folder) / f"{path.resolve().name or 'folder'}.zip"
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_STORED) as out:
            for file in files:
                info = zipfile.ZipInfo(
                    file.relative_to(path).as_posix()
                )  # its time is that of the first MS-DOS
                with file.open("rb") as source, out.open(info, "w", force_zip64=True) as entry:
                    while chunk := source.read(1 << 20):
                        entry.write(chunk)
        yield zipped


def list_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent) / name
            is_hidden = name.startswith(".") and name not in METADATA_FILES
            if not is_hidden and path.is_file() and not path.is_symlink():
                yield path
