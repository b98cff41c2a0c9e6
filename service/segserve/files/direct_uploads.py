"""Uploads that go straight to the object store, by signed URLs: a large file then does not pass through this process on
its way in.

    begin -> the client PUTs each part to its URL -> complete -> a stored file, probed like every other

Completing reads the parts from the store, checks them, and stores what they make as one file. The parts themselves
would not do: whoever has their URLs could change them after the check.
"""

import asyncio
import re
import secrets
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import timedelta
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

import orjson
import structlog

from segserve.errors import BadInput, NotAllowed, SegserveError, TooLarge, Unavailable, UploadNotFound
from segserve.files.file_library import FileLibrary
from segserve.store import object_paths
from segserve.store.content_id import hash_content
from segserve.store.list_tenants import list_tenants
from segserve.store.object_store import ObjectStore
from segserve.store.quota import Quota
from segserve.temporary_files import translate_disk_full
from segserve.types import MB, FileOptions, FileRecord

# A part that fails is sent again alone. The largest object that one PUT may write to S3 is 5 GB.
PART_BYTES = 128 * MB
# URLs and parts live as long.
LIFETIME = timedelta(hours=6)
EXPIRY_INTERVAL_S = 600.0
# Of a tenant, that are not complete: what is sent to a URL can be refused only afterwards.
MAX_OPEN_UPLOADS = 16
SPOOL_BYTES = 1 << 20
RECORD_ENDING = "/record.json"
UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{16}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PlannedUpload:
    """An upload that has begun, as its record says.

    size: bytes of the whole file. sha256: of it, in hexadecimal digits; None is not checked.
    created_at: seconds since the epoch.
    """

    size: int
    sha256: str | None
    series: str | None
    time: int | None
    created_at: float

    @property
    def expires_at(self) -> float:
        return self.created_at + LIFETIME.total_seconds()

    @property
    def part_sizes(self) -> list[int]:
        """Return the bytes of each part. All but the last have PART_BYTES."""
        full, rest = divmod(self.size, PART_BYTES)
        return [PART_BYTES] * full + ([rest] if rest else [])


@dataclass(frozen=True)
class UploadPart:
    """A part of a file: `size` bytes from byte `offset` on, to PUT to `url`."""

    offset: int
    size: int
    url: str


@dataclass(frozen=True)
class BegunUpload:
    """Addresses that a client sends its file to.

    headers: that each PUT must have. expires_at: seconds since the epoch.
    """

    upload_id: str
    parts: list[UploadPart]
    headers: dict[str, str]
    expires_at: float


class DirectUploads:
    """`DirectUploads` plans uploads to the object store, and makes files of them.

    allowed: whether clients reach the object store, as the operator says.
    max_bytes: of a file.
    """

    def __init__(
        self, objects: ObjectStore, files: FileLibrary, quota: Quota, *, allowed: bool, max_bytes: int
    ) -> None:
        self._objects, self._files, self._quota = objects, files, quota
        self._allowed, self._max_bytes = allowed, max_bytes

    def check_allowed(self) -> None:
        """Raises NotAllowed where there are no signed URLs."""
        if not (self._allowed and self._objects.can_sign):
            raise NotAllowed(
                "This service gives no signed URLs of its object store.",
                remedy="Send files to POST /v1/files, or ask the operator to set SEGSERVE_SIGNED_URLS.",
            )

    async def begin(self, tenant: str, size: int, sha256: str | None, options: FileOptions) -> BegunUpload:
        """Plan an upload of `size` bytes. Raises NotAllowed, TooLarge, BadInput, Unavailable."""
        self.check_allowed()
        if size > self._max_bytes:
            raise TooLarge(
                f"The file is over {self._max_bytes // MB} MB.",
                field="size",
                remedy="Send a smaller one, or ask the operator to raise SEGSERVE_MAX_FILE_MB.",
            )
        await self._check_room(tenant, size, 1)
        upload_id = secrets.token_urlsafe(12)
        plan = PlannedUpload(size, sha256, options.series, options.time, time.time())
        numbers = range(1, len(plan.part_sizes) + 1)
        paths = [object_paths.upload_part(tenant, upload_id, number) for number in numbers]
        urls = await self._objects.sign("PUT", paths, LIFETIME)
        parts = [
            UploadPart(index * PART_BYTES, part_size, url)
            for index, (part_size, url) in enumerate(zip(plan.part_sizes, urls, strict=True))
        ]
        await self._objects.put(object_paths.upload_record(tenant, upload_id), orjson.dumps(asdict(plan)))
        try:  # others may have begun meanwhile; nobody has the URLs yet
            await self._check_room(tenant, 0, 0)
        except SegserveError:
            await self._delete(tenant, upload_id)
            raise
        return BegunUpload(upload_id, parts, self._objects.upload_headers, plan.expires_at)

    async def _check_room(self, tenant: str, size: int, uploads: int) -> None:
        """Raise NotAllowed or TooLarge if so many bytes and uploads more than those that are open are too many.

        An open upload counts with all that it was planned for, or with what has arrived where that is more.
        """
        folder = object_paths.uploads(tenant)
        taken = Counter[str]()
        records = list[str]()
        for stored in await self._objects.list(folder):
            taken[upload_of(stored.path, folder)] += stored.size
            if stored.path.endswith(RECORD_ENDING):
                records.append(stored.path)
        if len(records) + uploads > MAX_OPEN_UPLOADS:
            raise NotAllowed(
                f"{MAX_OPEN_UPLOADS} uploads are open already.",
                remedy="Complete or delete one; each of them expires after some hours.",
            )
        contents = await asyncio.gather(*map(self._objects.get, records))
        for path, data in zip(records, contents, strict=True):
            if data is not None:
                upload_id = upload_of(path, folder)
                taken[upload_id] = max(taken[upload_id], orjson.loads(data)["size"])
        await self._quota.check_room(tenant, size + taken.total(), field="size")

    async def complete(self, tenant: str, upload_id: str) -> FileRecord:
        """Check and store what was uploaded, and return its record. The parts are gone then.

        Raises UploadNotFound, BadInput where the parts are not what was announced, and what `FileLibrary.add` raises.
        Where the store is away, the disk or the quota full, the upload stays as it is and may be completed again.
        """
        plan = await self._read_plan(tenant, upload_id)
        await self._check_parts(tenant, upload_id, plan)
        try:
            with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
                file = cast(BinaryIO, spool)
                await self._read_parts(tenant, upload_id, plan, file)
                record = await self._files.add(tenant, file, FileOptions(plan.series, plan.time))
        except (Unavailable, TooLarge, NotAllowed):
            raise  # a quota may have room later, an operator may raise a limit
        except SegserveError:  # what is no file now will never be one
            await self._delete(tenant, upload_id)
            raise
        await self._delete(tenant, upload_id)
        return record

    async def _read_plan(self, tenant: str, upload_id: str) -> PlannedUpload:
        data = None
        if UPLOAD_ID.fullmatch(upload_id):
            data = await self._objects.get(object_paths.upload_record(tenant, upload_id))
        if data is None:
            raise UploadNotFound(upload_id)
        plan = PlannedUpload(**orjson.loads(data))
        if plan.expires_at < time.time():
            raise UploadNotFound(upload_id)
        return plan

    async def _check_parts(self, tenant: str, upload_id: str, plan: PlannedUpload) -> None:
        """Raise BadInput for a part that is missing or has another size. It may be sent again."""
        folder = object_paths.upload(tenant, upload_id)
        sizes = {stored.path: stored.size for stored in await self._objects.list(folder)}
        for number, wanted in enumerate(plan.part_sizes, start=1):
            size = sizes.get(object_paths.upload_part(tenant, upload_id, number))
            if size != wanted:
                has = "is not there" if size is None else f"has {size} bytes"
                raise BadInput(
                    f"Part {number} of the upload {has}; it was to have {wanted}.",
                    field="parts",
                    remedy="Send the part to its URL again, and complete the upload then.",
                )

    async def _read_parts(self, tenant: str, upload_id: str, plan: PlannedUpload, file: BinaryIO) -> None:
        for number, size in enumerate(plan.part_sizes, start=1):
            part = await self._objects.stream(object_paths.upload_part(tenant, upload_id, number))
            if part is None:
                raise UploadNotFound(upload_id)
            left = size
            async for chunk in part:
                left -= len(chunk)
                if left >= 0:  # it may have been replaced by a larger one meanwhile
                    file.write(chunk)
            if left:
                raise BadInput(
                    f"Part {number} was changed while it was read.",
                    field="parts",
                    remedy="Send the file again.",
                )
        if plan.sha256 is not None:
            digest, _ = await asyncio.to_thread(hash_content, file)
            if digest.hex() != plan.sha256:
                raise BadInput(
                    "What was uploaded has another SHA-256 than was announced.",
                    field="sha256",
                    remedy="Send the file again.",
                )

    async def give_up(self, tenant: str, upload_id: str) -> None:
        """Delete an upload that is not complete. Raises UploadNotFound."""
        await self._read_plan(tenant, upload_id)
        await self._delete(tenant, upload_id)

    async def _delete(self, tenant: str, upload_id: str) -> None:
        """Delete the record last, so that a rest of the upload is found again."""
        record = object_paths.upload_record(tenant, upload_id)
        stored = await self._objects.list(object_paths.upload(tenant, upload_id))
        await self._objects.delete([entry.path for entry in stored if entry.path != record])
        await self._objects.delete(record)

    async def sign_download(self, tenant: str, file_id: str, until: float | None) -> tuple[str, float]:
        """Return a URL of a stored file's bytes, and when it expires, in seconds since the epoch.

        until: when the login, link or token that asks for it ends, in seconds since the epoch; None where it does not.
        Raises NotAllowed, FileNotFound.
        """
        await self._files.get_record(tenant, file_id)
        self.check_allowed()
        now, seconds = time.time(), LIFETIME.total_seconds()
        if until is not None:  # stores take whole seconds
            seconds = min(seconds, max(1, int(until - now)))
        path = object_paths.file_bytes(tenant, file_id)
        [url] = await self._objects.sign("GET", [path], timedelta(seconds=seconds))
        return url, now + seconds

    async def expire(self) -> None:
        """Delete uploads that were not completed in time, now and again and again, until cancelled."""
        while True:
            try:
                for tenant in await list_tenants(self._objects):
                    await self._delete_expired(tenant)
            except SegserveError as error:
                log.warning("expired uploads not deleted", reason=str(error))
            await asyncio.sleep(EXPIRY_INTERVAL_S)

    async def _delete_expired(self, tenant: str) -> None:
        folder = object_paths.uploads(tenant)
        limit = time.time() - LIFETIME.total_seconds()
        listed = await self._objects.list(folder)
        all_ids, old, with_record = set[str](), set[str](), set[str]()
        for stored in listed:
            upload_id = upload_of(stored.path, folder)
            all_ids.add(upload_id)
            if stored.modified < limit:  # its oldest object: parts that come late do not keep it
                old.add(upload_id)
            if stored.path.endswith(RECORD_ENDING):
                with_record.add(upload_id)
        # A record is there before anybody has a URL, and goes last. What comes without one came after its upload's end.
        for upload_id in sorted(old | (all_ids - with_record)):
            await self._delete(tenant, upload_id)
            log.info("upload expired", tenant=tenant, upload_id=upload_id)


def upload_of(path: str, folder: str) -> str:
    """Return the id of the upload that an object belongs to. folder: of all uploads of the tenant."""
    return path.removeprefix(folder).partition("/")[0]
