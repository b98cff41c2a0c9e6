"""A running segserve as the commands for long work see it: files go up, a job is followed, its results come down."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import httpx
import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from segserve.commands.in_process_server import own_service
from segserve.commands.retry import PART, Patient, unavailable
from segserve.errors import BadInput, Unavailable
from segserve.jobs.engine.job import Kind, State
from segserve.wire.results.job_formats import FILE_TYPES, FORMATS_BY_KIND, JobFormat

Server = Annotated[
    str | None,
    typer.Option(help="Address of a running segserve, such as http://127.0.0.1:8000 [default: work here]."),
]
Json = dict[str, Any]

LOOK_S = 0.5
TIMEOUT = httpx.Timeout(120.0, read=None)  # a label volume is made before its first byte comes


def format_of(output: Path, kind: Kind) -> JobFormat:
    """By its suffix. Raises BadInput."""
    by_suffix = {FILE_TYPES[each].suffix: each for each in reversed(FORMATS_BY_KIND[kind])}
    for suffix, found in by_suffix.items():
        if output.name.lower().endswith(suffix):
            if not output.absolute().parent.is_dir():
                raise BadInput(
                    f"There is no folder {str(output.parent)!r}.",
                    field="--output",
                    remedy="Make it.",
                )
            return found
    raise BadInput(
        f"{output.name!r} does not say what to write.",
        field="--output",
        remedy=f"End it with one of {', '.join(sorted(by_suffix))}.",
    )


@contextmanager
def bar(
    what: str, total: int | None, *, in_bytes: bool = False
) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar while the block runs, told (done, total)."""
    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def whole(output: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the output's name once the block is through: nothing half-written is left."""
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


class Remote:
    """Every method blocks, and raises BadInput where the service refuses, Unavailable where it is away."""

    def __init__(self, client: httpx.Client) -> None:
        self._client, self._patient = client, Patient(client)

    def upload(self, path: Path) -> Json:
        """What is kept about the file."""
        total = path.stat().st_size
        with path.open("rb") as file, bar(f"sending {path.name}", total, in_bytes=True) as told:

            def parts() -> Iterator[bytes]:
                while part := file.read(PART):
                    yield part
                    told(file.tell(), total)

            headers = {"content-type": "application/octet-stream", "content-length": str(total)}
            with reached(self._client):  # once: what was sent of a file cannot be sent again
                answer = taken(self._client.post("/v1/files", content=parts(), headers=headers))
        stored: Json = answer.json()
        return stored

    def upload_image(self, path: Path) -> Json:
        """The image, or the problem with it."""
        answer = self.send("POST", "/v1/images", files={"file": path.read_bytes()})
        told: Json = (taken(answer) if answer.is_server_error else answer).json()
        return told

    def work(self, body: Json, told: Callable[[int, int | None], None]) -> Json:
        """A job, done. told: (done, total), now and then. Whatever ends the waiting ends the job."""
        once = {"Idempotency-Key": secrets.token_urlsafe()}
        job: Json = taken(self.send("POST", "/v1/jobs", json=body, headers=once)).json()
        path = f"/v1/jobs/{job['job_id']}"
        try:
            while not State(job["state"]).ended:
                time.sleep(LOOK_S)
                job = taken(self.send("GET", path)).json()
                told(job["progress"]["done"], job["progress"]["total"])
        except BaseException:
            with suppress(Unavailable):
                self.send("DELETE", path)
            raise
        if job["state"] != State.SUCCEEDED:
            error = job["error"] or {}
            raise Unavailable(
                f"The job ended as {job['state']}. {error.get('detail', '')}".strip(),
                remedy=error.get("remedy", "Look at the server's log."),
            )
        return job

    def results(self, job: Json, asked: JobFormat, out: BinaryIO) -> None:
        with bar(f"fetching {asked}", None, in_bytes=True) as told:

            def received(parts: Iterator[bytes]) -> None:
                out.seek(0)
                out.truncate()
                for part in parts:
                    out.write(part)
                    told(out.tell(), None)

            path = f"/v1/jobs/{job['job_id']}/results"
            taken(self._patient.fetch(path, {"format": asked.value}, received))

    def send(self, method: str, path: str, **content: Any) -> httpx.Response:
        return self._patient.send(method, path, **content)


@contextmanager
def reached(client: httpx.Client) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unavailable(client, str(error)) from None


def taken(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        told = answer.json()
        detail = told["detail"]
    except (ValueError, KeyError, TypeError):
        raise Unavailable(
            f"{answer.url} answers {answer.status_code}.", remedy="Is that the address of a running segserve?"
        ) from None
    raise BadInput(detail, field=told.get("field"), remedy=told.get("remedy", ""))


@contextmanager
def serving(server: str | None, data_dir: Path | None) -> Iterator[Remote]:
    """The service at an address, or one of our own for as long as the block runs."""
    if server is not None:
        with httpx.Client(base_url=server, timeout=TIMEOUT) as client:
            yield Remote(client)
        return
    with own_service(data_dir) as url, httpx.Client(base_url=url, timeout=TIMEOUT) as client:
        yield Remote(client)
