"""The client of the long commands: a service there or in this process, jobs with progress, Ctrl-C cancels."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from segserve.errors import BadInput, SegserveError, Unavailable
from segserve.jobs.engine.job import JobKind
from segserve.progress_bar import OnProgress, show_progress
from segserve.types import FileOptions
from segserve.wire.results.job_formats import FILE_TYPES, FORMATS_BY_KIND, JobFormat
from segserve_client import (
    NO_RETRIES,
    Client,
    ClientError,
    Job,
    JobFailed,
    Model,
    Problem,
    RetryPolicy,
    StoredFile,
    Unauthenticated,
    Unreachable,
)
from segserve_client import Unavailable as ServiceUnavailable

ServerUrl = Annotated[
    str | None,
    typer.Option(
        "--server",
        help="Address of a running segserve, such as http://127.0.0.1:8000 [default: work in this process].",
    ),
]
# A file and a variable: other users of the machine see what stands on a command line.
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        help="With --server: file with the key for it, and nothing else"
        " [default: the environment variable SEGSERVE_API_KEY].",
    ),
]
MAX_KEY_FILE_BYTES = 64 << 10
# A server may be restarted in the middle of an hour's work. It has loaded its models long before this time is over.
RETRY = RetryPolicy(give_up_s=300.0)
CANCEL_TIMEOUT_S = 5.0
KEY_REMEDY = (
    "Ask the operator of the service for a key (segserve keys add), and name a file that holds it by --api-key-file,"
    " or set SEGSERVE_API_KEY."
)


def get_formats_by_suffix(kind: JobKind) -> dict[str, JobFormat]:
    """Return the result formats of a kind of job, by suffix.

    Where two formats share a suffix, it names the first one in `FORMATS_BY_KIND`.
    """
    return {FILE_TYPES[format].suffix: format for format in reversed(FORMATS_BY_KIND[kind])}


@contextmanager
def connect_to_server(
    server_url: str | None, data_dir: Path | None, api_key_file: Path | None = None
) -> Iterator[Client]:
    """Connect to the service at an address, or to one that runs in this process while the block runs.

    Raises BadInput for a key that cannot be read or sent. Errors of the client become those of commands: BadInput where
    the service refuses, Unavailable where it cannot.
    """
    try:
        if server_url is not None:
            api_key = None if api_key_file is None else read_key_file(api_key_file)
            with create_client(server_url, api_key) as client:
                yield client
            return
        # Here, since it imports the whole service, which a client of another one does without.
        from segserve.commands.in_process_server import run_in_process_server

        with run_in_process_server(data_dir) as url, create_client(url, api_key="") as client:
            yield client
    except ClientError as error:
        raise to_command_error(error) from None


def create_client(address: str, api_key: str | None) -> Client:
    """Create a client that waits for every answer: a label volume is written before its first byte is sent.

    api_key: None takes that of SEGSERVE_API_KEY. Raises BadInput for one that no header can hold.
    """
    try:
        return Client(address, api_key=api_key, read_timeout_s=None, retry=RETRY)
    except ValueError as error:
        raise BadInput(str(error), field="api_key", remedy=KEY_REMEDY) from None


def read_key_file(path: Path) -> str:
    """Return the key in a file. Raises BadInput."""
    try:
        with path.open("rb") as file:
            key = file.read(MAX_KEY_FILE_BYTES).decode().strip()
    except (OSError, ValueError):
        key = ""
    if not key:
        raise BadInput(f"The file {path} has no key.", field="--api-key-file", remedy=KEY_REMEDY)
    return key


def to_command_error(error: ClientError) -> SegserveError:
    """Return the error that a command ends with."""
    match error:
        case ServiceUnavailable():
            return Unavailable(error.detail, remedy=error.remedy)
        case Unauthenticated():
            return BadInput(error.detail, field="--api-key-file", remedy=KEY_REMEDY)
        case Problem():
            return BadInput(error.detail, field=error.field, remedy=error.remedy)
        case Unreachable():
            return Unavailable(
                f"{error.address} cannot be reached: {error.reason}.",
                remedy="Is that the address of a running segserve?",
            )
        case JobFailed():
            problem = error.job.error
            return Unavailable(
                f"The job ended as {error.job.state}. {'' if problem is None else problem.detail}".strip(),
                remedy="Look at the server's log." if problem is None else problem.remedy,
            )
        case _:
            return Unavailable(str(error))


def upload_file(
    client: Client, path: Path, options: FileOptions = FileOptions(), *, is_sent: bool = True
) -> StoredFile:
    """Upload a video, stack, volume or zip, with a progress bar. is_sent: to a service elsewhere."""
    with show_progress(
        f"{'sending' if is_sent else 'reading'} {path.name}", path.stat().st_size, in_bytes=True
    ) as on_progress:
        return client.upload(path, series=options.series, time=options.time, on_progress=on_progress)


def run_job(client: Client, body: dict[str, Any], on_progress: OnProgress) -> Job[Any]:
    """Start a job and wait until it has succeeded. body: of POST /v1/jobs. on_progress: called now and then.

    An error or an interrupt while waiting cancels the job. Raises JobFailed.
    """
    job = client.submit(body)
    with cancel_on_error(client, job):
        job.wait(on_progress=lambda info: on_progress(info.done, info.total))
    return job


@contextmanager
def cancel_on_error(client: Client, job: Job[Any]) -> Iterator[None]:
    """Cancel the job where the block ends by an error or an interrupt."""
    try:
        yield
    except BaseException:
        # Once: whoever interrupts does not want to wait.
        once = client.with_limits(read_timeout_s=CANCEL_TIMEOUT_S, retry=NO_RETRIES)
        with suppress(ClientError), once:
            once.job(job.job_id).cancel()
        raise


def download_results(job: Job[Any], format: JobFormat, out: BinaryIO) -> None:
    """Write the results of a job into `out`, which must be seekable, with a progress bar."""
    with show_progress(f"fetching {format}", None, in_bytes=True) as on_progress:
        job.download_to(format.value, out, on_progress)


def find_model(client: Client, name: str | None) -> Model:
    """Return a model. name: None for the default model. Raises BadInput where there is none of this name."""
    models = client.models()
    for model in models:
        if model.default if name is None else model.name == name:
            return model
    raise BadInput(
        f"There is no model {name!r}.",
        field="--model",
        remedy=f"There are {', '.join(model.name for model in models)}.",
    )
