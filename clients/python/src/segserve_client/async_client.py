"""The asynchronous client of a running segserve. Its methods are those of `Client`, to await."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, TypeVar

import httpx

from segserve_client import calls, direct_uploads, job_calls
from segserve_client.answers import LabelVolume, Model, StoredFile
from segserve_client.async_image import AsyncImage, send_image
from segserve_client.async_job import AsyncJob
from segserve_client.async_transport import AsyncTransport
from segserve_client.batches import BatchImages, choose_names
from segserve_client.client import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, File
from segserve_client.errors import ClientError, Problem
from segserve_client.job_answers import Frame, Item, JobInfo, parse_frame, parse_line
from segserve_client.prompts import Objects, Prompt, objects_to_json
from segserve_client.retry import RetryPolicy
from segserve_client.transport import build_headers, build_timeout
from segserve_client.uploads import OnProgress, Source, Upload, name_source, open_upload
from segserve_client.usage import Link, Usage, create_link, read_usage

L = TypeVar("L")


class AsyncClient:
    """`AsyncClient` calls a running segserve. Arguments and errors are those of `Client`."""

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float | None = READ_TIMEOUT_S,
        retry: RetryPolicy = RetryPolicy(),
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        timeout = build_timeout(connect_timeout_s, read_timeout_s)

        def connect_bucket() -> AsyncTransport:
            # Without the headers of the service, among which is the key.
            return AsyncTransport(httpx.AsyncClient(timeout=timeout, verify=verify), retry)

        self._connect_bucket = connect_bucket
        self._transport = AsyncTransport(
            http
            or httpx.AsyncClient(
                base_url=address,
                timeout=timeout,
                headers=build_headers(headers, api_key),
                verify=verify,
            ),
            retry,
        )

    @property
    def address(self) -> str:
        """Of the service."""
        return self._transport.address

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def version(self) -> str:
        """Return the version of the service."""
        return await self._transport.call(calls.get_version())

    async def models(self) -> tuple[Model, ...]:
        """Return all models."""
        return await self._transport.call(calls.list_models())

    async def usage(
        self,
        *,
        first: datetime.date | None = None,
        last: datetime.date | None = None,
        tenant: str | None = None,
    ) -> Usage:
        """As `Client.usage`."""
        return await self._transport.call(read_usage(first, last, tenant))

    async def create_link(self, path: str, *, seconds: int = 600) -> Link:
        """As `Client.create_link`."""
        return await self._transport.call(create_link(self.address, path, seconds))

    async def image(
        self,
        source: Source,
        *,
        model: str | None = None,
        page: int | None = None,
        channels: Sequence[int] | None = None,
        normalise: str | None = None,
        stain: str | None = None,
        invert: bool = False,
        keep: bool = True,
        on_progress: OnProgress | None = None,
    ) -> AsyncImage:
        """As `Client.image`."""
        options = calls.ReadOptions(page, channels, normalise, stain, invert)
        stored = await send_image(self._transport, source, options, model, on_progress)
        return AsyncImage(self._transport, stored, model, source, options, keep)

    async def image_by_id(self, image_id: str, *, model: str | None = None) -> AsyncImage:
        """Return a picture that was uploaded before. Raises ImageNotFound."""
        return AsyncImage(self._transport, await self._transport.call(calls.get_image(image_id)), model)

    async def upload(
        self,
        source: Source,
        *,
        series: str | None = None,
        time: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> StoredFile:
        """As `Client.upload`."""
        with open_upload(source, stack=True, on_progress=on_progress) as upload:
            stored = await self._upload_directly(upload, series, time)
            if stored is not None:
                return stored
            return await self._transport.call(calls.upload_file(upload, series, time))

    async def _upload_directly(
        self, upload: Upload, series: str | None, time: int | None
    ) -> StoredFile | None:
        """Send a large file to the service's object store. Return None where that is not offered."""
        if upload.size < direct_uploads.MIN_BYTES:
            return None
        try:
            plan = await self._transport.call(direct_uploads.begin_upload(upload, series, time))
        except Problem as problem:
            if direct_uploads.is_not_offered(problem):
                return None
            raise
        bucket = self._connect_bucket()
        try:
            for part in plan.parts:
                await bucket.call(direct_uploads.send_part(plan, part, upload))
        finally:
            await bucket.close()
        return await self._transport.call(direct_uploads.complete_upload(plan))

    async def file_by_id(self, file_id: str) -> StoredFile:
        """Return a file that was uploaded before. Raises FileNotFound."""
        return await self._transport.call(calls.get_file(file_id))

    async def read_labels(
        self,
        file: StoredFile,
        labels: str | PathLike[str] | bytes,
        *,
        axis: int = 0,
        on_progress: OnProgress | None = None,
    ) -> LabelVolume:
        """As `Client.read_labels`."""
        with open_upload(labels, on_progress=on_progress) as upload:
            return await self._transport.call(calls.read_labels(upload, file.file_id, axis))

    async def delete_file(self, file: StoredFile) -> None:
        """Delete a file from the service."""
        await self._transport.call(calls.delete_file(file.file_id))

    async def video(
        self,
        file: File,
        objects: Objects,
        *,
        names: Mapping[int, str] | None = None,
        model: str | None = None,
        priority: str = "interactive",
        webhook: str | None = None,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> AsyncJob[Frame]:
        """As `Client.video`."""
        params["objects"] = objects_to_json(objects, names or {})
        return await self._submit_for_file(
            "video", file, params, model, priority, webhook, idempotency_key, parse_frame
        )

    async def volume(
        self,
        file: File,
        objects: Objects | None = None,
        *,
        names: Mapping[int, str] | None = None,
        model: str | None = None,
        priority: str = "interactive",
        webhook: str | None = None,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> AsyncJob[Frame]:
        """As `Client.volume`."""
        if objects is None:
            params.setdefault("engine", "automatic")
        else:
            params["objects"] = objects_to_json(objects, names or {})
        return await self._submit_for_file(
            "volume", file, params, model, priority, webhook, idempotency_key, parse_frame
        )

    async def track(
        self,
        file: File,
        *,
        model: str | None = None,
        priority: str = "interactive",
        webhook: str | None = None,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> AsyncJob[Frame]:
        """As `Client.track`."""
        return await self._submit_for_file(
            "tracking", file, params, model, priority, webhook, idempotency_key, parse_frame
        )

    async def batch(
        self,
        images: Iterable[Source | AsyncImage],
        operation: str = "automatic",
        *,
        names: Iterable[str] | None = None,
        prompts: Sequence[Sequence[Prompt]] | None = None,
        model: str | None = None,
        priority: str = "batch",
        webhook: str | None = None,
        idempotency_key: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Any,
    ) -> AsyncJob[Item]:
        """As `Client.batch`."""
        sources = list(images)
        called = choose_names(len(sources), names, lambda number: name_source(sources[number], number))
        batch = BatchImages()
        for number, (source, name) in enumerate(zip(sources, called, strict=True)):
            try:
                image = source if isinstance(source, AsyncImage) else await self.image(source)
                batch.add(number, name, image.image_id)
            except (ClientError, OSError, ValueError) as error:
                batch.add_failure(number, name, error)
            if on_progress is not None:
                on_progress(number + 1, len(sources))
        batch.check()
        params = {
            "operation": operation,
            "options": options,
            "prompts": batch.prompts_to_json(prompts),
        }
        body = job_calls.job_body("batch", batch.to_input(), params, model, priority, webhook)
        info = await self._transport.call(job_calls.submit(body, idempotency_key))
        return AsyncJob(self._transport, info, batch.parse(), batch.failed)

    async def submit(self, body: Mapping[str, Any], *, idempotency_key: str | None = None) -> AsyncJob[Any]:
        """Submit a job by its JSON, as POST /v1/jobs takes it."""
        info = await self._transport.call(job_calls.submit(body, idempotency_key))
        return AsyncJob(self._transport, info, parse_line)

    async def job(self, job_id: str) -> AsyncJob[Any]:
        """Return a job that was submitted before, perhaps by another process. Raises JobNotFound."""
        return AsyncJob(self._transport, await self._transport.call(job_calls.get_job(job_id)), parse_line)

    async def jobs(self) -> tuple[JobInfo, ...]:
        """Return the newest jobs, the newest first."""
        return await self._transport.call(job_calls.list_jobs())

    async def _submit_for_file(
        self,
        kind: str,
        file: File,
        params: Mapping[str, Any],
        model: str | None,
        priority: str,
        webhook: str | None,
        idempotency_key: str | None,
        parse: Callable[[Any], L],
    ) -> AsyncJob[L]:
        stored = file if isinstance(file, StoredFile) else await self.upload(file)
        body = job_calls.job_body(kind, {"file_id": stored.file_id}, params, model, priority, webhook)
        return AsyncJob(
            self._transport, await self._transport.call(job_calls.submit(body, idempotency_key)), parse
        )
