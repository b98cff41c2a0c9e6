"""`segserve serve`, `segserve encoder` and `segserve worker`: the service, and the workers that encode for it and
that run its jobs."""

import os
import signal
import sys
import threading
from typing import Annotated

import structlog
import typer

from segserve import logs
from segserve.app import Role, Service
from segserve.commands.single_image import DataDir
from segserve.jobs.engine.worker import JobWorker
from segserve.settings import Settings, load_settings
from segserve.types import Device
from segserve.wire.grpc.encoder_client import RemoteEncoder
from segserve.wire.operations.batch import create_job_runners
from segserve.wire.rest.api import create_api, create_worker_api
from segserve.wire.server import Server, run_server

Host = Annotated[
    str | None, typer.Option(envvar="SEGSERVE_HOST", help="Address to listen on [default: 127.0.0.1].")
]
Port = Annotated[
    int | None,
    typer.Option(envvar="SEGSERVE_PORT", help="Port to listen on; 0 takes a free one [default: 8000]."),
]
GrpcPort = Annotated[
    int | None,
    typer.Option(envvar="SEGSERVE_GRPC_PORT", help="Port for gRPC; 0 takes a free one [default: no gRPC]."),
]
EncoderUrl = Annotated[
    str | None,
    typer.Option(
        envvar="SEGSERVE_ENCODER_URL",
        help="gRPC target of encoder workers, such as dns:///encoder:8010 [default: encode here].",
    ),
]
LogFormat = Annotated[str | None, typer.Option(envvar="SEGSERVE_LOG_FORMAT", help="text or json.")]

WORKER_NICE = 19  # the least there is

log = structlog.get_logger(__name__)

TRY_IT = """
segserve answers at {url}   (page: {url}/   routes: {url}/docs)

Try it:
  curl -F file=@{sample} {url}/v1/images
  curl {url}/v1/segment -H 'content-type: application/json' -d '{{"image_id": "ID", "prompts": [{{"points": [[{x}, {y}]]}}]}}'
  curl {url}/v1/segment -H 'content-type: application/json' -H 'accept: image/png' -o mask.png -d '{{"image_id": "ID", "prompts": [{{"points": [[{x}, {y}]]}}]}}'
(ID: the image_id that the first one answers)
"""


def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    log_format: LogFormat = None,
    grpc_port: GrpcPort = None,
    encoder_url: EncoderUrl = None,
) -> None:
    """Start the service. All further settings are environment variables, SEGSERVE_...: see the README."""
    settings = load_settings(
        host=host,
        port=port,
        data_dir=data_dir,
        log_format=log_format,
        grpc_port=grpc_port,
        encoder_url=encoder_url,
    )
    logs.configure_logging(settings.log_format, settings.log_level)
    service = Service(settings, workers_of(settings), role=Role.API)

    def started(rest: str, grpc: str | None) -> None:
        print(TRY_IT.format(url=rest, sample="examples/nuclei.png", x=413, y=190), file=sys.stderr)
        if grpc is not None:
            print(f"gRPC at {grpc}   (grpcurl -plaintext {grpc} list)", file=sys.stderr)
        sys.stderr.flush()

    run_server(
        Server(
            service, create_api(service), settings.port, settings.grpc_port, worker=False, started_at=started
        )
    )


def encoder(
    host: Host = None,
    port: Annotated[
        int, typer.Option(envvar="SEGSERVE_ENCODER_PORT", help="Port for gRPC; 0 takes a free one.")
    ] = 8010,
    metrics_port: Annotated[
        int,
        typer.Option(envvar="SEGSERVE_METRICS_PORT", help="Port for /metrics, /livez, /readyz over HTTP."),
    ] = 8011,
    data_dir: DataDir = None,
    log_format: LogFormat = None,
) -> None:
    """Start an encoder worker: it encodes images for services that name it in SEGSERVE_ENCODER_URL.

    It needs the same Redis, object store and models as they do.
    """
    settings = load_settings(host=host, data_dir=data_dir, log_format=log_format)
    logs.configure_logging(settings.log_format, settings.log_level)
    service = Service(settings, role=Role.ENCODER)

    def started(rest: str, grpc: str | None) -> None:
        print(f"segserve encodes at {grpc}   (metrics: {rest}/metrics)", file=sys.stderr, flush=True)

    run_server(
        Server(service, create_worker_api(service), metrics_port, port, worker=True, started_at=started)
    )


def worker(
    host: Host = None,
    metrics_port: Annotated[
        int,
        typer.Option(envvar="SEGSERVE_METRICS_PORT", help="Port for /metrics, /livez, /readyz over HTTP."),
    ] = 8012,
    data_dir: DataDir = None,
    encoder_url: EncoderUrl = None,
    log_format: LogFormat = None,
    with_parent: Annotated[bool, typer.Option(help="End when standard input does.", hidden=True)] = False,
) -> None:
    """Start a job worker: it runs the jobs of services that share its Redis, jobs' Redis, object store and models.

    A service that was given no Redis starts one by itself.
    """
    settings = load_settings(host=host, data_dir=data_dir, encoder_url=encoder_url, log_format=log_format)
    logs.configure_logging(settings.log_format, settings.log_level)
    service = Service(settings, workers_of(settings), role=Role.WORKER)
    running = service.jobs.worker(create_job_runners(service))  # before anything starts: there may be no jobs
    if settings.device is Device.CPU and hasattr(os, "nice"):
        os.nice(WORKER_NICE)  # clicks on this machine go first

    def started(rest: str, grpc: str | None) -> None:
        print(f"segserve runs jobs   (metrics: {rest}/metrics)", file=sys.stderr, flush=True)
        service.background(end_after(running))

    if with_parent:
        end_with_input()
    run_server(
        Server(service, create_worker_api(service), metrics_port, None, worker=False, started_at=started)
    )


def workers_of(settings: Settings) -> RemoteEncoder | None:
    """None: this process encodes."""
    url = settings.encoder_url
    return None if url is None else RemoteEncoder(url, settings.encode_timeout_s)


async def end_after(running: JobWorker) -> None:
    """A process that runs no jobs any more must not look as if it did."""
    try:
        await running.run()
    except Exception:
        log.exception("the job worker met an error of ours and ends")
        os.kill(os.getpid(), signal.SIGTERM)


def end_with_input() -> None:
    """Whoever started this process holds the other end of its standard input: once that is gone, so is the reason
    to go on."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):  # unbuffered: a buffer's lock would be held at exit
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
