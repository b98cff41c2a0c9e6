"""The object store (a folder, S3 or another cloud): bytes under paths. What is kept here survives everything.

Every method raises Unavailable if the store cannot be reached, StorageFull if there is no room left in it, and nothing
else. Nothing under a path is None, not an error.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url
from obstore.store import ObjectStore as Backend

from segserve.errors import BadInput, StorageFull, Unavailable
from segserve.temporary_files import is_disk_full

READ_CHUNK_BYTES = 1 << 20
# obstore's own errors are not OSErrors.
STORE_ERRORS = (OSError, BaseError)


@dataclass(frozen=True)
class StoredObject:
    """One entry of a listing. modified: seconds since the epoch. size: bytes."""

    path: str
    modified: float
    size: int


@contextmanager
def translate_store_errors(doing: str, remedy: str = "Check the object store.") -> Iterator[None]:
    """Raise Unavailable or StorageFull for errors of the store in the block. FileNotFoundError passes.

    doing: ends the sentence "The object store failed while ...".
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except STORE_ERRORS as error:
        if is_disk_full(error):
            raise StorageFull from error
        raise Unavailable(f"The object store failed while {doing}.", remedy=remedy) from error


class ObjectStore:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def put(self, path: str, content: bytes | BinaryIO) -> None:
        with translate_store_errors("it was written to"):
            await obstore.put_async(self._backend, path, content)

    async def put_new(self, path: str, content: bytes) -> None:
        """Write what is not there yet. Of several that do so at once, one writes."""
        with translate_store_errors("it was written to"), suppress(AlreadyExistsError):
            await obstore.put_async(self._backend, path, content, mode="create")

    def put_blocking(self, path: str, content: bytes) -> None:
        """Do what `put` does, but block: call it in a thread."""
        with translate_store_errors("it was written to"):
            obstore.put(self._backend, path, content)

    async def get(self, path: str) -> bytes | None:
        try:
            with translate_store_errors("it was read"):
                answer = await obstore.get_async(self._backend, path)
                return bytes(await answer.bytes_async())
        except FileNotFoundError:
            return None

    async def stream(self, path: str) -> AsyncIterator[bytes] | None:
        """Return an iterator over the object's parts, READ_CHUNK_BYTES each or less."""
        try:
            with translate_store_errors("it was read"):
                answer = await obstore.get_async(self._backend, path)
        except FileNotFoundError:
            return None

        async def parts() -> AsyncIterator[bytes]:
            with translate_store_errors("it was read"):
                async for part in answer.stream(READ_CHUNK_BYTES):
                    yield bytes(part)

        return parts()

    async def delete(self, paths: str | Sequence[str]) -> None:
        """Delete objects. A path under which there is nothing counts as deleted."""
        if not paths:
            return
        try:
            with translate_store_errors("it was deleted from", "Delete it again."):
                await obstore.delete_async(self._backend, paths)
        except FileNotFoundError:
            pass

    async def list_folders(self, prefix: str = "") -> list[str]:
        """Return the names of the folders right below `prefix`, which is empty or ends with "/"."""

        def list_level() -> list[str]:
            return [
                str(path) for path in obstore.list_with_delimiter(self._backend, prefix)["common_prefixes"]
            ]

        with translate_store_errors("it was listed"):
            paths = await asyncio.to_thread(list_level)
        return [path.removesuffix("/").removeprefix(prefix) for path in paths]

    async def list(self, prefix: str) -> list[StoredObject]:
        """Return all objects whose path begins with `prefix`."""

        def list_pages() -> list[StoredObject]:
            return [
                StoredObject(entry["path"], entry["last_modified"].timestamp(), entry["size"])
                for page in obstore.list(self._backend, prefix)
                for entry in page
            ]

        with translate_store_errors("it was listed"):
            return await asyncio.to_thread(list_pages)


def open_store(url: str | None, folder: Path) -> ObjectStore:
    """Open the store at a URL such as s3://bucket/prefix, or the local folder if there is none. Raises BadInput."""
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
