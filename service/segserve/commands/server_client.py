"""The HTTP client of the long commands: upload files, run a job, download its results."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import httpx
import typer

from segserve.commands.in_process_server import run_in_process_server
from segserve.commands.retry import PART_BYTES, RetryingClient, unreachable_error
from segserve.errors import BadInput, Unavailable
from segserve.jobs.engine.job import JobKind, JobState
from segserve.progress_bar import OnProgress, show_progress
from segserve.types import FileOptions
from segserve.wire.results.job_formats import FILE_TYPES, FORMATS_BY_KIND, JobFormat

ServerUrl = Annotated[
    str | None,
    typer.Option(
        "--server",
        help="Address of a running segserve, such as http://127.0.0.1:8000 [default: work in this process].",
    ),
]
Json = dict[str, Any]

POLL_S = 0.5
CANCEL_TIMEOUT_S = 5.0
TIMEOUT = httpx.Timeout(120.0, read=None)  # a label volume is written before its first byte is sent


def get_formats_by_suffix(kind: JobKind) -> dict[str, JobFormat]:
    """Return the result formats of a kind of job, by suffix.

    Where two formats share a suffix, it names the first one in `FORMATS_BY_KIND`.
    """
    return {FILE_TYPES[format].suffix: format for format in reversed(FORMATS_BY_KIND[kind])}


class ServerClient:
    """`ServerClient` calls a running service. Every method blocks.

    Every method raises BadInput where the service refuses the request, and Unavailable where it does not answer.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._retrying = RetryingClient(client)

    def upload_file(self, path: Path, options: FileOptions = FileOptions()) -> Json:
        """Upload a video, stack, volume or zip. Returns the answer of POST /v1/files."""
        query = {name: str(value) for name, value in asdict(options).items() if value is not None}
        total = path.stat().st_size
        with (
            path.open("rb") as file,
            show_progress(f"sending {path.name}", total, in_bytes=True) as on_progress,
        ):

            def read_parts() -> Iterator[bytes]:
                while part := file.read(PART_BYTES):
                    yield part
                    on_progress(file.tell(), total)

            headers = {"content-type": "application/octet-stream", "content-length": str(total)}
            with raise_unreachable(self._client):  # no retry: the parts that were sent cannot be read again
                response = expect_success(
                    self._client.post("/v1/files", params=query, content=read_parts(), headers=headers)
                )
        stored: Json = response.json()
        return stored

    def upload_image(self, path: Path, page: int = 0) -> Json:
        """Upload a page of an image. Returns the answer of POST /v1/images: the image, or the problem with it."""
        response = self._send("POST", "/v1/images", files={"file": path.read_bytes()}, params={"page": page})
        answer: Json = (expect_success(response) if response.is_server_error else response).json()
        return answer

    def run_job(self, body: Json, on_progress: OnProgress) -> Json:
        """Start a job and wait until it has succeeded. Returns the job as GET /v1/jobs/{job_id} answers it.

        body: of POST /v1/jobs. on_progress: called after each poll.

        An error or an interrupt while waiting cancels the job.
        """
        once = {"Idempotency-Key": secrets.token_urlsafe()}
        job: Json = expect_success(
            self._send("POST", "/v1/jobs", begins=True, json=body, headers=once)
        ).json()
        path = f"/v1/jobs/{job['job_id']}"
        try:
            while not JobState(job["state"]).has_ended:
                time.sleep(POLL_S)
                job = expect_success(self._send("GET", path)).json()
                on_progress(job["progress"]["done"], job["progress"]["total"])
        except BaseException:
            with suppress(httpx.HTTPError):  # once: whoever interrupts does not want to wait
                self._client.delete(path, timeout=CANCEL_TIMEOUT_S)
            raise
        if job["state"] != JobState.SUCCEEDED:
            error = job["error"] or {}
            raise Unavailable(
                f"The job ended as {job['state']}. {error.get('detail', '')}".strip(),
                remedy=error.get("remedy", "Look at the server's log."),
            )
        return job

    def download_results(self, job: Json, format: JobFormat, out: BinaryIO) -> None:
        """Write the results of a job into `out`, which must be seekable."""
        with show_progress(f"fetching {format}", None, in_bytes=True) as on_progress:

            def receive(parts: Iterator[bytes]) -> None:
                out.seek(0)
                out.truncate()
                for part in parts:
                    out.write(part)
                    on_progress(out.tell(), None)

            path = f"/v1/jobs/{job['job_id']}/results"
            expect_success(self._retrying.download(path, {"format": format.value}, receive))

    def read_results(self, job: Json, format: JobFormat) -> bytes:
        """Return the results of a job, which fit into memory."""
        out = BytesIO()
        self.download_results(job, format, out)
        return out.getvalue()

    def get_model(self, name: str | None) -> Json:
        """Return a model as GET /v1/models has it. name: None for the default model."""
        models: list[Json] = expect_success(self._send("GET", "/v1/models")).json()["models"]
        for model in models:
            if model["default"] if name is None else model["name"] == name:
                return model
        raise BadInput(
            f"There is no model {name!r}.",
            field="--model",
            remedy=f"There are {', '.join(model['name'] for model in models)}.",
        )

    def _send(self, method: str, path: str, *, begins: bool = False, **content: Any) -> httpx.Response:
        return self._retrying.send(method, path, begins=begins, **content)


@contextmanager
def raise_unreachable(client: httpx.Client) -> Iterator[None]:
    """Turn the HTTP library's errors into Unavailable."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unreachable_error(client, str(error)) from None


def expect_success(response: httpx.Response) -> httpx.Response:
    """Return a 2xx response. Raises BadInput with the text of a problem document, Unavailable without one."""
    if response.is_success:
        return response
    try:
        problem = response.json()
        detail = problem["detail"]
    except (ValueError, KeyError, TypeError):
        raise Unavailable(
            f"{response.url} answers {response.status_code}.",
            remedy="Is that the address of a running segserve?",
        ) from None
    raise BadInput(detail, field=problem.get("field"), remedy=problem.get("remedy", ""))


@contextmanager
def connect_to_server(server_url: str | None, data_dir: Path | None) -> Iterator[ServerClient]:
    """Connect to the service at an address, or to one that runs in this process while the block runs."""
    if server_url is not None:
        with httpx.Client(base_url=server_url, timeout=TIMEOUT) as client:
            yield ServerClient(client)
        return
    with run_in_process_server(data_dir) as url, httpx.Client(base_url=url, timeout=TIMEOUT) as client:
        yield ServerClient(client)
