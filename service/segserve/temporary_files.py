"""Temporary files: in a folder of this process's own beside the data, for in containers /tmp is often memory.

A process holds a lock on its folder while it lives, whatever ends it; the next to start deletes those that nobody
holds. Not by process ids: in containers all are 1.
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

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def private_temporary_folder(parent: Path) -> Iterator[Path]:
    """Where all temporary files of this process go, while the block runs."""
    parent.mkdir(exist_ok=True)
    before = tempfile.tempdir
    with hold_lock(parent):  # so that what another is just making is not taken for left behind
        delete_abandoned_folders(parent)
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
        held = os.open(folder, os.O_RDONLY)
        wait_for_lock(held)
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        wait_for_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def wait_for_lock(descriptor: int) -> None:
    with suppress(OSError):  # a file system without locks: what is left behind on it is not cleared
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def delete_abandoned_folders(parent: Path) -> None:
    """Delete the folders of processes that are no more."""
    for folder in parent.iterdir():
        with suppress(OSError):  # no folder, or gone, or held
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def is_disk_full(error: Exception) -> bool:
    """Whether something could not be written for lack of room. The object store's library tells the system's error in
    words only."""
    if isinstance(error, OSError):
        return error.errno in FULL
    found = re.search(r"\(os error (\d+)\)", str(error))
    return found is not None and int(found[1]) in FULL


@contextmanager
def translate_disk_full() -> Iterator[None]:
    """Raises StorageFull where the block meets a full disk."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageFull from error
        raise
