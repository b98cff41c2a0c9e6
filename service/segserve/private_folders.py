"""Folders that only this user may change: created so, and checked where they stand already."""

import os
import stat
from pathlib import Path

from segserve.errors import BadInput

# Rights that new files and folders do not get: none for the group and for others.
PRIVATE_UMASK = 0o077
FOLDER_MODE = 0o700


def keep_new_files_private() -> None:
    """Have all files and folders that this process creates readable by this user only."""
    os.umask(PRIVATE_UMASK)


def create_private_folder(path: Path) -> None:
    """Create a folder, or check the one that is there. Raises OSError, and BadInput as `check_private_folder` does."""
    path.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    check_private_folder(path)


def check_private_folder(path: Path) -> None:
    """Check that no other user can change what is in the folder. Links are followed.

    Raises BadInput where it belongs to another user than this one or root, or where everybody may write to it.
    """
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        raise BadInput(
            f"The folder {path} belongs to another user, who could change what the service reads there.",
            field="data_dir",
            remedy=f"Choose another, or make it yours: chown -R {os.geteuid()} {path}",
        )
    if status.st_mode & stat.S_IWOTH:
        raise BadInput(
            f"Every user may write to the folder {path}, and could change what the service reads there.",
            field="data_dir",
            remedy=f"Choose another, or make it private: chmod go-w {path}",
        )
