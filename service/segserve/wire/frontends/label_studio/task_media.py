"""The images and videos of Label Studio's tasks: fetched where the task says they are, each once."""

import asyncio
import base64
import re
from contextlib import suppress
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

import httpx
from cachetools import TTLCache

from segserve.errors import BadInput, FileNotFound, ImageNotFound
from segserve.identity.identity import current_tenant
from segserve.temporary_files import translate_disk_full
from segserve.types import MB, FileRecord, ImageRecord, ReadOptions
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.label_studio.bodies import TaskIn
from segserve.wire.frontends.label_studio.connections import Connection
from segserve.wire.frontends.label_studio.site import Site
from segserve.wire.http.limits import SPOOL_BYTES

MAX_REMEMBERED = 16_384
# After so long a file is fetched again, since local files may be overwritten. The same bytes are not encoded again.
REMEMBERED_S = 600.0
# Label Studio waits 100 s for an answer.
VIDEO_TIMEOUT_S = 60.0
# Where files of tasks are. No other path of Label Studio is opened with a project's token.
FILE_PATH = re.compile(r"/(data|storage-data|(tasks|projects)/\d+/(resolve|presign))/")
# The key of a file that was imported before the project had a label config.
UNNAMED = "$undefined$"
CLOUD_SCHEMES = ("s3://", "s3a://", "gs://", "azure-blob://")


@dataclass(frozen=True)
class Location:
    """Where the file of a task is. path: of Label Studio; None for a URL of another host."""

    path: str | None
    url: str = ""


class TaskMedia:
    """`TaskMedia` stores the files of tasks."""

    def __init__(self, parts: FrontendParts, site: Site) -> None:
        self._service, self._sent_images, self._site = parts.service, parts.sent_images, site
        # image_id or file_id, by whose file it is, what the task says, and its kind.
        self._ids: TTLCache[tuple[str, str, str], str] = TTLCache(MAX_REMEMBERED, REMEMBERED_S)

    async def get_image(
        self, connection: Connection, task: TaskIn, key: str, index: int | None
    ) -> ImageRecord:
        """Return the image of a task. key: of its data. index: of several.

        Raises BadInput, NotAllowed, FetchFailed, TooLarge, and what `ImageLibrary.add` raises.
        """
        field, value = f"tasks.data.{key}", find_value(task, key, index)
        if value.startswith("data:"):
            return await self._sent_images.store_base64(value, field)
        images, metrics = self._service.images, self._service.metrics.frontends
        known = connection.scope, value, "image"
        if (image_id := self._ids.get(known)) is not None:
            with suppress(ImageNotFound):  # it was deleted: it is fetched again
                record = await images.get_record(current_tenant(), image_id)
                metrics.count_image(recognised=True)
                return record
        settings = self._service.settings
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file = cast(BinaryIO, spool)
            max_bytes = settings.max_image_mb * MB
            await self._fetch(connection, task, value, field, file, max_bytes, settings.fetch_timeout_s)
            record = await images.add(current_tenant(), file, ReadOptions())
        metrics.count_image(recognised=False)
        self._ids[known] = record.image_id
        return record

    async def get_file(self, connection: Connection, task: TaskIn, key: str) -> FileRecord:
        """Return the video of a task. Raises as `get_image`, and what `FileLibrary.add` raises."""
        field, value = f"tasks.data.{key}", find_value(task, key, None)
        known = connection.scope, value, "file"
        if (file_id := self._ids.get(known)) is not None:
            with suppress(FileNotFound):
                return await self._service.files.get_record(current_tenant(), file_id)
        max_bytes = self._service.settings.max_file_mb * MB
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file = cast(BinaryIO, spool)
            await self._fetch(connection, task, value, field, file, max_bytes, VIDEO_TIMEOUT_S)
            record = await self._service.files.add(current_tenant(), file)
        self._ids[known] = record.file_id
        return record

    async def _fetch(
        self,
        connection: Connection,
        task: TaskIn,
        value: str,
        field: str,
        into: BinaryIO,
        max_bytes: int,
        timeout_s: float,
    ) -> None:
        """Write the file to `into`, and go to its beginning."""
        location = find_location(connection, task, value, field)
        if location.path is None:
            await self._service.image_fetcher.fetch(location.url, into)
        else:
            await self._site.fetch(connection, location.path, into, max_bytes, timeout_s)
        await asyncio.to_thread(into.seek, 0)


def find_value(task: TaskIn, key: str, index: int | None) -> str:
    """Return what a task says about its file. Raises BadInput."""
    value: Any = task.data.get(key, task.data.get(UNNAMED))
    if isinstance(value, list):
        number = index or 0
        value = value[number] if number < len(value) else None
    if isinstance(value, dict):
        value = value.get("url")
    if not isinstance(value, str) or not value:
        raise BadInput(
            f"The task has no {key!r}.",
            field=f"tasks.data.{key}",
            remedy="Let the label config's Image or Video have the value under which the task's data has it.",
        )
    return value


def find_location(connection: Connection, task: TaskIn, value: str, field: str) -> Location:
    """Return where the file is. Raises BadInput."""
    if value.startswith(CLOUD_SCHEMES):
        uri = base64.urlsafe_b64encode(value.encode()).decode()
        return Location(f"/tasks/{task.id}/resolve/?fileuri={uri}")
    if value.startswith(("http://", "https://")):
        bases = [base for base in (connection.url, connection.hostname) if base]
        path = next((value.removeprefix(base) for base in bases if value.startswith(f"{base}/")), None)
        # A file of Label Studio itself, else the file of another host.
        if path is None or not FILE_PATH.match(path):
            return Location(None, value)
    else:
        path = value if value.startswith("/") else f"/{value}"
        if path.startswith("/upload/"):
            path = f"/data{path}"
        prefix = httpx.URL(connection.url or "").path.rstrip("/")
        if path.startswith(f"{prefix}/"):  # Label Studio lives below a path
            path = path.removeprefix(prefix)
    if not FILE_PATH.match(path) or has_dots(path):
        raise BadInput(
            "It is no file of Label Studio.",
            field=field,
            remedy="Import the picture into Label Studio, or send a URL or a data: URI.",
        )
    return Location(path)


def has_dots(path: str) -> bool:
    """Whether a path has parts that lead out of its folder."""
    return any(part in (".", "..") for part in unquote(path.partition("?")[0]).split("/"))
