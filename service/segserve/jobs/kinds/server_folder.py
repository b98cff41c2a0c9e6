"""A folder of the server that jobs may read from. Whoever may write into it may put links there: nothing outside it
is read through them."""

import asyncio
import os
import stat
from pathlib import Path

from segserve.errors import BadInput, NotAllowed
from segserve.store.object_store import StoredObject, translate_store_errors


class ServerFolder:
    """As `Objects`, for reading."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    async def get(self, path: str) -> bytes | None:
        """None where it is gone. Raises NotAllowed, BadInput, Unavailable."""
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> bytes | None:
        try:
            # One that is a pipe must not be waited for.
            descriptor = os.open(self._root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise refusal(f"The file cannot be opened: {error.strerror}.") from None
        with translate_store_errors("it was read"), os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise refusal("It is no file.")
            if not self._is_inside(path, status):
                raise refusal("It is a link that leads out of the root.")
            return file.read()

    def _is_inside(self, path: str, opened: os.stat_result) -> bool:
        """Whether what was opened is what lies inside: a link may be another by now."""
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
        found = []
        with translate_store_errors("it was listed"):
            for folder, _, names in os.walk(top):
                for name in names:
                    path = Path(folder, name)
                    status = path.lstat()
                    found.append(
                        StoredObject(path.relative_to(self._root).as_posix(), status.st_mtime, status.st_size)
                    )
        return found

    async def list(self, prefix: str) -> list[StoredObject]:
        """All files below a folder, "" or with a slash at its end. Links to folders are not followed. Raises BadInput
        where the folder is outside, Unavailable."""
        return await asyncio.to_thread(self._list, prefix)


def refusal(message: str) -> NotAllowed:
    return NotAllowed(message, field="input.folder", remedy="Put the file itself into the root.")
