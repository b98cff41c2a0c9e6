"""The object store: what survives everything, as bytes under paths. Where there is nothing, the answer is None.

Every method raises Unavailable when the store cannot be reached, StorageFull when there is no room left in it, and
nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url
from obstore.store import ObjectStore as Backend

from segserve.errors import BadInput, StorageFull, Unavailable
from segserve.temporary_files import is_disk_full

READ_CHUNK = 1 << 20
STORE_ERRORS = (OSError, BaseError)  # obstore's own errors are no OSErrors


@dataclass(frozen=True)
class StoredObject:
    """modified: seconds since the epoch."""

    path: str
    modified: float
    size: int


@contextmanager
def translate_store_errors(doing: str, remedy: str = "Check the object store.") -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except STORE_ERRORS as error:
        if is_disk_full(error):
            raise StorageFull from error
        raise Unavailable(f"The object store failed while {doing}.", remedy=remedy) from error


class ObjectStore:
    def __init__(self, store: Backend) -> None:
        self._store = store

    async def put(self, path: str, content: bytes | BinaryIO) -> None:
        with translate_store_errors("it was written to"):
            await obstore.put_async(self._store, path, content)

    def put_blocking(self, path: str, content: bytes) -> None:
        """Blocks: call it in a thread."""
        with translate_store_errors("it was written to"):
            obstore.put(self._store, path, content)

    async def get(self, path: str) -> bytes | None:
        try:
            with translate_store_errors("it was read"):
                answer = await obstore.get_async(self._store, path)
                return bytes(await answer.bytes_async())
        except FileNotFoundError:
            return None

    async def stream(self, path: str) -> AsyncIterator[bytes] | None:
        """The object in parts."""
        try:
            with translate_store_errors("it was read"):
                answer = await obstore.get_async(self._store, path)
        except FileNotFoundError:
            return None

        async def parts() -> AsyncIterator[bytes]:
            with translate_store_errors("it was read"):
                async for part in answer.stream(READ_CHUNK):
                    yield bytes(part)

        return parts()

    async def delete(self, paths: str | Sequence[str]) -> None:
        """What is not there counts as deleted."""
        if not paths:
            return
        try:
            with translate_store_errors("it was deleted from", "Delete it again."):
                await obstore.delete_async(self._store, paths)
        except FileNotFoundError:
            pass

    async def list(self, prefix: str) -> list[StoredObject]:
        def run() -> list[StoredObject]:
            return [
                StoredObject(entry["path"], entry["last_modified"].timestamp(), entry["size"])
                for page in obstore.list(self._store, prefix)
                for entry in page
            ]

        with translate_store_errors("it was listed"):
            return await asyncio.to_thread(run)


def open_store(url: str | None, folder: Path) -> ObjectStore:
    """`url` such as s3://bucket/prefix, or the local folder when there is none. Raises BadInput."""
    if url is not None:
        try:
            return ObjectStore(from_url(url))
        except (ValueError, *STORE_ERRORS) as error:
            raise BadInput(
                f"The object store {url!r} cannot be used: {str(error).splitlines()[0]}.",
                field="object_store",
                remedy="Set SEGSERVE_OBJECT_STORE to a URL such as s3://bucket/prefix.",
            ) from None
    folder.mkdir(parents=True, exist_ok=True)
    return ObjectStore(LocalStore(folder, automatic_cleanup=True))
