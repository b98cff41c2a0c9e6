"""Temporary files, in a private folder of this process beside the data: in containers /tmp is often in memory.

A process holds a lock on its folder while it lives. The next process to start deletes the folders that nobody holds, so
that nothing stays behind a process that was killed. Process ids would not tell: in containers all of them are 1.
"""

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segserve.errors import StorageFull

# No space left, quota exceeded, file too large.
DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def private_temporary_folder(parent: Path) -> Iterator[Path]:
    """Let all temporary files of this process go to a new folder in `parent` while the block runs; yield it."""
    tempdir_before = tempfile.tempdir
    with held_folder(parent) as folder:
        tempfile.tempdir = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = tempdir_before


@contextmanager
def held_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in `parent`, and delete it when the block ends.

    Where this process is killed, the next one that makes such a folder deletes it.
    """
    parent.mkdir(exist_ok=True)
    with hold_lock(parent):  # so that no process deletes a folder that another has created but not locked yet
        delete_abandoned_folders(parent)
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
        descriptor = os.open(folder, os.O_RDONLY)
        wait_for_lock(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while the block runs; wait for it first."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        wait_for_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def wait_for_lock(descriptor: int) -> None:
    with suppress(OSError):  # the file system has no locks; abandoned folders on it are not deleted
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def delete_abandoned_folders(parent: Path) -> None:
    """Delete the folders of processes that have ended."""
    for folder in parent.iterdir():
        with suppress(OSError):  # not a folder, already gone, or held by a process
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def is_disk_full(error: Exception) -> bool:
    """Return whether something could not be written for lack of room.

    Errors of the object store's library name the system's error in their text only: "(os error 28)".
    """
    if isinstance(error, OSError):
        return error.errno in DISK_FULL_ERRNOS
    match = re.search(r"\(os error (\d+)\)", str(error))
    return match is not None and int(match[1]) in DISK_FULL_ERRNOS


@contextmanager
def translate_disk_full() -> Iterator[None]:
    """Raise StorageFull if the block meets a full disk."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageFull from error
        raise
