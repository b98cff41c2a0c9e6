"""A folder of the server that jobs may read from.

Anybody who may write into the folder may put symbolic links there. Nothing outside the folder is read through them
(path traversal).
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from segserve.errors import BadInput, NotAllowed
from segserve.store.object_store import READ_CHUNK_BYTES, StoredObject, translate_store_errors


class ServerFolder:
    """`ServerFolder` has the reading methods of `ObjectStore`, for a local folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    async def stream(self, path: str) -> AsyncIterator[bytes] | None:
        """Return an iterator over the parts of a file; None if it is gone. Raises NotAllowed, BadInput, Unavailable."""
        file = await asyncio.to_thread(self._open, path)
        if file is None:
            return None

        async def parts() -> AsyncIterator[bytes]:
            with file, translate_store_errors("it was read"):
                while part := await asyncio.to_thread(file.read, READ_CHUNK_BYTES):
                    yield part

        return parts()

    def _open(self, path: str) -> BinaryIO | None:
        try:
            # O_NONBLOCK: opening a pipe must not wait for its writer.
            descriptor = os.open(self._root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise not_allowed_error(f"The file cannot be opened: {error.strerror}.") from None
        file = os.fdopen(descriptor, "rb")
        try:
            with translate_store_errors("it was read"):
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise not_allowed_error("It is not a regular file.")
                if not self._is_inside(path, status):
                    raise not_allowed_error("It is a link that leads out of the root.")
        except BaseException:
            file.close()
            raise
        return file

    def _is_inside(self, path: str, opened: os.stat_result) -> bool:
        """Return whether the opened file lies inside the root.

        The check comes after opening and compares the file itself, because a link may have been changed meanwhile.
        """
        real = (self._root / path).resolve()
        try:
            return real.is_relative_to(self._root) and os.path.samestat(opened, real.lstat())
        except OSError:
            return False

    def _list(self, prefix: str) -> list[StoredObject]:
        top = self._root / prefix
        if not top.resolve().is_relative_to(self._root):
            raise BadInput(
                "The folder leads out of the root.", field="input.folder", remedy="Name one inside it."
            )
        files = []
        with translate_store_errors("it was listed"):
            for folder, _, names in os.walk(top):
                for name in names:
                    path = Path(folder, name)
                    status = path.lstat()
                    files.append(
                        StoredObject(path.relative_to(self._root).as_posix(), status.st_mtime, status.st_size)
                    )
        return files

    async def list(self, prefix: str) -> list[StoredObject]:
        """Return all files below a folder. Links to folders are not followed.

        prefix: "" for the root, else a path with a slash at its end.

        Raises BadInput if the folder is outside the root, Unavailable.
        """
        return await asyncio.to_thread(self._list, prefix)


def not_allowed_error(message: str) -> NotAllowed:
    return NotAllowed(message, field="input.folder", remedy="Put the file itself into the root.")
