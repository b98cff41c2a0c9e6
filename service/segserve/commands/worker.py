"""`segserve worker`: a job worker, a process that runs the jobs of the replicas of the service."""

import os
import signal
import sys
from typing import Annotated

import structlog
import typer

from segserve.app import Role, Service
from segserve.commands.common_options import DataDir
from segserve.commands.end_with_parent import stop_when_stdin_closes
from segserve.commands.server_options import (
    EncoderUrl,
    Host,
    LogFormat,
    MetricsPort,
    configure_logs,
    connect_encoder,
)
from segserve.jobs.engine.worker import JobWorker
from segserve.private_folders import keep_new_files_private
from segserve.settings import load_settings
from segserve.types import Device
from segserve.wire.operations.job_runners import create_job_runners
from segserve.wire.rest.api import create_operator_api
from segserve.wire.server import Addresses, Server, run_server

# The lowest CPU priority of POSIX, so that clicks on this machine go first.
LOWEST_PRIORITY_NICE = 19

log = structlog.get_logger(__name__)


def worker(
    host: Host = None,
    metrics_port: MetricsPort = 8012,
    data_dir: DataDir = None,
    encoder_url: EncoderUrl = None,
    log_format: LogFormat = None,
    with_parent: Annotated[
        bool, typer.Option(help="End when standard input is closed.", hidden=True)
    ] = False,
) -> None:
    """Start a job worker.

    It runs the jobs of services that share its Redis, jobs' Redis, object store and models. A service with a private
    jobs' Redis starts a worker itself.
    """
    settings = load_settings(host=host, data_dir=data_dir, encoder_url=encoder_url, log_format=log_format)
    configure_logs(settings)
    keep_new_files_private()
    service = Service(settings, connect_encoder(settings), role=Role.WORKER)
    # Before anything is started: this raises where no jobs' Redis is set.
    job_worker = service.jobs.create_worker(create_job_runners(service))
    if settings.device is Device.CPU and hasattr(os, "nice"):
        os.nice(LOWEST_PRIORITY_NICE)

    def start_jobs(addresses: Addresses) -> None:
        print(f"segserve runs jobs   (metrics: {addresses.rest}/metrics)", file=sys.stderr, flush=True)
        service.run_in_background(run_jobs(job_worker))

    if with_parent:
        stop_when_stdin_closes()
    api = create_operator_api(service)
    run_server(Server(service, api, metrics_port, None, on_started=start_jobs))


async def run_jobs(job_worker: JobWorker) -> None:
    """Run jobs until the service stops.

    Where the job worker fails, end the process: it must not look alive while it runs no jobs.
    """
    try:
        await job_worker.run()
    except Exception:
        log.exception("the job worker failed; this process ends")
        os.kill(os.getpid(), signal.SIGTERM)
