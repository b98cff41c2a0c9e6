"""The object store (a folder, S3, Google Cloud Storage or Azure): bytes under paths. What is kept here survives
everything.

Every method raises Unavailable if the store cannot be reached, StorageFull if there is no room left in it, and nothing
else. Nothing under a path is None, not an error.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Literal

import obstore
import structlog
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store, from_url
from obstore.store import ObjectStore as Backend

from segserve.errors import BadInput, NotAllowed, StorageFull, Unavailable, shorten
from segserve.temporary_files import is_disk_full

READ_CHUNK_BYTES = 1 << 20
# As many as S3 deletes in one request.
DELETED_AT_ONCE = 1000
# obstore's own errors are not OSErrors.
STORE_ERRORS = (OSError, BaseError)
# A request that fails is sent again at most so often, and no longer than this: then the client is told to come back.
# obstore itself goes on for three minutes.
MAX_RETRIES = 4
RETRY_TIMEOUT = timedelta(seconds=15)
MAX_BACKOFF = timedelta(seconds=2)
# obstore has no error of its own for a list that is refused: its text says the status.
HTTP_STATUS = re.compile(r"status code: (\d{3})")
REFUSALS, NOT_FOUND = ("401", "403"), "404"
# Schemes without a network.
LOCAL_SCHEMES = ("file", "memory")
MAX_REASON_CHARACTERS = 300
SETTING = "SEGSERVE_OBJECT_STORE"

log = structlog.get_logger(__name__)


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


def describe_store_error(error: Exception) -> str:
    """Return what went wrong, for the log: obstore's errors have few classes, and say it in their first line."""
    first_line = next(iter(str(error).splitlines()), "")
    return shorten(first_line, MAX_REASON_CHARACTERS) or type(error).__name__


class ObjectStore:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def can_sign(self) -> bool:
        """Return whether the store has URLs by which others read and write without its keys."""
        return isinstance(self._backend, (S3Store, GCSStore, AzureStore))

    @property
    def upload_headers(self) -> dict[str, str]:
        """Return the headers that a request to a signed URL for writing must have."""
        return {"x-ms-blob-type": "BlockBlob"} if isinstance(self._backend, AzureStore) else {}

    async def sign(
        self, method: Literal["GET", "PUT"], paths: Sequence[str], lifetime: timedelta
    ) -> list[str]:
        """Return a URL for each path, by which anybody who has it may read or write that object for a while.

        Raises NotAllowed where the store cannot do that.
        """
        if not isinstance(self._backend, (S3Store, GCSStore, AzureStore)):
            raise NotAllowed(
                "The object store of this service has no signed URLs.",
                remedy="Send it to the service itself.",
            )
        with translate_store_errors("URLs were signed"):
            return list(await obstore.sign_async(self._backend, method, list(paths), lifetime))

    async def check(self) -> None:
        """Raise BadInput where the store refuses us, or has no such bucket. That does not pass by itself.

        One that does not answer may come back, and is no error here.
        """
        try:
            await asyncio.to_thread(lambda: next(iter(obstore.list(self._backend, chunk_size=1)), None))
        except STORE_ERRORS as error:
            status = HTTP_STATUS.search(str(error))
            if status is not None and status[1] in REFUSALS:
                raise BadInput(
                    f"The object store of {SETTING} refuses the keys of this service.",
                    field=SETTING,
                    remedy="Check the keys, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they may do.",
                ) from None
            if status is not None and status[1] == NOT_FOUND:
                raise BadInput(
                    f"The bucket of {SETTING} does not exist.",
                    field=SETTING,
                    remedy="Create it, or name another.",
                ) from None
            log.warning("the object store does not answer", reason=describe_store_error(error))

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

    async def delete_all(self, prefix: str) -> int:
        """Delete all objects whose path begins with `prefix`, a part after the other; return how many there were."""
        count = 0
        while paths := await asyncio.to_thread(self._list_first, prefix):
            await self.delete(paths)
            count += len(paths)
        return count

    def _list_first(self, prefix: str) -> list[str]:
        with translate_store_errors("it was listed"):
            pages = obstore.list(self._backend, prefix, chunk_size=DELETED_AT_ONCE)
            return [entry["path"] for entry in next(iter(pages), [])]

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
            return ObjectStore(open_backend(url))
        except (ValueError, *STORE_ERRORS) as error:
            raise BadInput(
                f"The object store {url!r} cannot be used: {str(error).splitlines()[0]}.",
                field="object_store",
                remedy=f"Set {SETTING} to a URL such as s3://bucket/prefix, gs://bucket/prefix or"
                " az://container/prefix.",
            ) from None
    folder.mkdir(parents=True, exist_ok=True)
    return ObjectStore(LocalStore(folder, automatic_cleanup=True))


def open_backend(url: str) -> Backend:
    """Raises ValueError and STORE_ERRORS."""
    if url.partition(":")[0] in LOCAL_SCHEMES:
        return from_url(url)
    return from_url(
        url,
        retry_config={
            "max_retries": MAX_RETRIES,
            "retry_timeout": RETRY_TIMEOUT,
            "backoff": {"max_backoff": MAX_BACKOFF},
        },
    )
