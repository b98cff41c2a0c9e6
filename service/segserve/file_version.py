"""The version of a file: what tells that it was written or replaced, for those that read it again when it changes."""

from pathlib import Path
from typing import NamedTuple


class FileVersion(NamedTuple):
    """`FileVersion` differs between two states of a file. Kubernetes moves a name to another file, by a link."""

    device: int
    inode: int
    modified_ns: int
    size: int


def read_file_version(path: Path) -> FileVersion | None:
    """Return the version of a file, None where it cannot be looked at. Links are followed. Blocks."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileVersion(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
