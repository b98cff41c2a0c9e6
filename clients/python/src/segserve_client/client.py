"""The client of a running segserve. Every method blocks; `AsyncClient` has the same ones to await."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, TypeVar

import httpx
from numpy.typing import NDArray

from segserve_client import calls, direct_uploads, job_calls
from segserve_client.answers import LabelVolume, Model, StoredFile
from segserve_client.batches import BatchImages, choose_names
from segserve_client.errors import ClientError, Problem
from segserve_client.image import Image, send_image
from segserve_client.job import Job
from segserve_client.job_answers import Frame, Item, JobInfo, parse_frame, parse_line
from segserve_client.prompts import Objects, Prompt, objects_to_json
from segserve_client.retry import RetryPolicy
from segserve_client.transport import Transport, build_headers, build_timeout
from segserve_client.uploads import OnProgress, Source, Upload, name_source, open_upload
from segserve_client.usage import Link, Usage, create_link, read_usage

L = TypeVar("L")

# A file of a job: uploaded already, or to upload. Arrays are [n, height, width] or [n, height, width, 3].
File = StoredFile | str | PathLike[str] | bytes | NDArray[Any]

CONNECT_TIMEOUT_S = 10.0
# The first click on a large image waits for the encoder; without a GPU that takes a while.
READ_TIMEOUT_S = 300.0


class Client:
    """`Client` calls a running segserve.

    address: such as http://127.0.0.1:8000. connect_timeout_s: for a connection. read_timeout_s: for an answer, and for
    silence while one comes; None waits for ever. retry: how long busy or restarted services are asked again. headers:
    of every request. api_key: if the service asks for one; if left out, that of the environment variable
    SEGSERVE_API_KEY. verify: an ssl.SSLContext with private authorities, and the client's own certificate; else the
    authorities of the file that SSL_CERT_FILE names, or public ones. http: an httpx.Client with a base_url, to use
    instead (proxies); it has its own headers.

    Every method raises a ClientError: Unreachable, or a Problem with the service's detail and remedy.
    """

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
        http: httpx.Client | None = None,
    ) -> None:
        timeout = build_timeout(connect_timeout_s, read_timeout_s)

        def connect_bucket() -> Transport:
            # Without the headers of the service, among which is the key.
            return Transport(httpx.Client(timeout=timeout, verify=verify), retry)

        self._connect_bucket = connect_bucket
        self._transport = Transport(
            http
            or httpx.Client(
                base_url=address, timeout=timeout, headers=build_headers(headers, api_key), verify=verify
            ),
            retry,
        )

    @property
    def address(self) -> str:
        """Of the service."""
        return self._transport.address

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def with_limits(self, *, read_timeout_s: float | None, retry: RetryPolicy) -> Client:
        """Return another client of the same service, with the same headers, other limits and its own connections."""
        timeout = build_timeout(CONNECT_TIMEOUT_S, read_timeout_s)
        headers = self._transport.headers
        return Client(http=httpx.Client(base_url=self.address, timeout=timeout, headers=headers), retry=retry)

    def version(self) -> str:
        """Return the version of the service."""
        return self._transport.call(calls.get_version())

    def models(self) -> tuple[Model, ...]:
        """Return all models."""
        return self._transport.call(calls.list_models())

    def usage(
        self,
        *,
        first: datetime.date | None = None,
        last: datetime.date | None = None,
        tenant: str | None = None,
    ) -> Usage:
        """Return what a tenant used, day by day.

        first, last: in UTC; 30 days up to today if left out. tenant: another one, or "*" for all: for operators.
        """
        return self._transport.call(read_usage(first, last, tenant))

    def create_link(self, path: str, *, seconds: int = 600) -> Link:
        """Make an address of an image, a file or a job readable without a key for a while.

        path: such as /v1/jobs/ID/results?format=coco. The link reads it and what is below it. seconds: 3600 at most.
        """
        return self._transport.call(create_link(self.address, path, seconds))

    def image(
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
    ) -> Image:
        """Upload a picture. The same one twice is one picture on the service.

        source: a path, the bytes of a file, or an array [height, width] or [height, width, 3] of any real type.
        model: of requests on it; its encoding begins at once. page, channels, normalise, stain, invert: how the file is
        read (docs/whole-images.md). keep: False deletes it when the block `with client.image(...)` ends.
        on_progress: called with the bytes that are sent, and their total.
        """
        options = calls.ReadOptions(page, channels, normalise, stain, invert)
        stored = send_image(self._transport, source, options, model, on_progress)
        return Image(self._transport, stored, model, source, options, keep)

    def image_by_id(self, image_id: str, *, model: str | None = None) -> Image:
        """Return a picture that was uploaded before. Raises ImageNotFound."""
        return Image(self._transport, self._transport.call(calls.get_image(image_id)), model)

    def upload(
        self,
        source: Source,
        *,
        series: str | None = None,
        time: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> StoredFile:
        """Upload a video, a stack, a volume or a zip.

        source: a path, bytes, or frames or slices [n, height, width] or [n, height, width, 3].
        series, time: what to take of a file that holds several. on_progress: called with the bytes that are sent.
        """
        with open_upload(source, stack=True, on_progress=on_progress) as upload:
            stored = self._upload_directly(upload, series, time)
            if stored is not None:
                return stored
            return self._transport.call(calls.upload_file(upload, series, time))

    def _upload_directly(self, upload: Upload, series: str | None, time: int | None) -> StoredFile | None:
        """Send a large file to the service's object store. Return None where that is not offered."""
        if upload.size < direct_uploads.MIN_BYTES:
            return None
        try:
            plan = self._transport.call(direct_uploads.begin_upload(upload, series, time))
        except Problem as problem:
            if direct_uploads.is_not_offered(problem):
                return None
            raise
        bucket = self._connect_bucket()
        try:
            for part in plan.parts:
                bucket.call(direct_uploads.send_part(plan, part, upload))
        finally:
            bucket.close()
        return self._transport.call(direct_uploads.complete_upload(plan))

    def file_by_id(self, file_id: str) -> StoredFile:
        """Return a file that was uploaded before. Raises FileNotFound."""
        return self._transport.call(calls.get_file(file_id))

    def read_labels(
        self,
        file: StoredFile,
        labels: str | PathLike[str] | bytes,
        *,
        axis: int = 0,
        on_progress: OnProgress | None = None,
    ) -> LabelVolume:
        """Read labels of another program on the voxels of a stored volume. The service does not keep them.

        labels: a path or the bytes of NIfTI, NRRD, MetaImage, MGH or DICOM SEG, on the volume's own grid.
        axis: the array axis along which slices are numbered. on_progress: called with the bytes that are sent.

        Raises BadRequest for labels on another grid.
        """
        with open_upload(labels, on_progress=on_progress) as upload:
            return self._transport.call(calls.read_labels(upload, file.file_id, axis))

    def delete_file(self, file: StoredFile) -> None:
        """Delete a file from the service."""
        self._transport.call(calls.delete_file(file.file_id))

    def video(
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
    ) -> Job[Frame]:
        """Follow objects through a video or a stack of frames.

        objects: the prompts of each object, by its number. names: what the objects are, by their numbers.
        priority: interactive, or batch. idempotency_key: the same one again is the same job; a new one if left out.
        params: of the job, such as direction, engine, max_gap (docs/videos-and-volumes.md).
        """
        params["objects"] = objects_to_json(objects, names or {})
        return self._submit_for_file(
            "video", file, params, model, priority, webhook, idempotency_key, parse_frame
        )

    def volume(
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
    ) -> Job[Frame]:
        """Follow objects through a volume, or find all of them.

        objects: the prompts of each object, by its number; the frame of a prompt is a slice. If left out, all objects
        are found. The others are those of `video`; params such as axis and window.
        """
        if objects is None:
            params.setdefault("engine", "automatic")
        else:
            params["objects"] = objects_to_json(objects, names or {})
        return self._submit_for_file(
            "volume", file, params, model, priority, webhook, idempotency_key, parse_frame
        )

    def track(
        self,
        file: File,
        *,
        model: str | None = None,
        priority: str = "interactive",
        webhook: str | None = None,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> Job[Frame]:
        """Find all objects of every frame and link them over time. params: `params` and `linking` of the job."""
        return self._submit_for_file(
            "tracking", file, params, model, priority, webhook, idempotency_key, parse_frame
        )

    def batch(
        self,
        images: Iterable[Source | Image],
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
    ) -> Job[Item]:
        """Upload images, and run one operation on each of them.

        operation: automatic, semantic, instances, similar, segment or embed. options: of its route.
        names: what results call the images; the names of their files if left out.
        prompts: of the operation segment, for each image. on_progress: called with the images that are sent.

        An image that cannot be sent or read fails alone: its `Item` has an error. Raises its error where all fail.
        """
        sources = list(images)
        called = choose_names(len(sources), names, lambda number: name_source(sources[number], number))
        batch = BatchImages()
        for number, (source, name) in enumerate(zip(sources, called, strict=True)):
            try:
                image = source if isinstance(source, Image) else self.image(source)
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
        info = self._transport.call(job_calls.submit(body, idempotency_key))
        return Job(self._transport, info, batch.parse(), batch.failed)

    def submit(self, body: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job[Any]:
        """Submit a job by its JSON, as POST /v1/jobs takes it."""
        info = self._transport.call(job_calls.submit(body, idempotency_key))
        return Job(self._transport, info, parse_line)

    def job(self, job_id: str) -> Job[Any]:
        """Return a job that was submitted before, perhaps by another process. Raises JobNotFound."""
        return Job(self._transport, self._transport.call(job_calls.get_job(job_id)), parse_line)

    def jobs(self) -> tuple[JobInfo, ...]:
        """Return the newest jobs, the newest first."""
        return self._transport.call(job_calls.list_jobs())

    def _submit_for_file(
        self,
        kind: str,
        file: File,
        params: Mapping[str, Any],
        model: str | None,
        priority: str,
        webhook: str | None,
        idempotency_key: str | None,
        parse: Callable[[Any], L],
    ) -> Job[L]:
        stored = file if isinstance(file, StoredFile) else self.upload(file)
        body = job_calls.job_body(kind, {"file_id": stored.file_id}, params, model, priority, webhook)
        return Job(self._transport, self._transport.call(job_calls.submit(body, idempotency_key)), parse)
