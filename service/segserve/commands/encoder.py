"""`segserve encoder`: an encoder worker, a process that encodes images for the replicas of the service."""

import sys
from typing import Annotated

import typer

from segserve.app import EncodingService
from segserve.commands.common_options import DataDir
from segserve.commands.server_options import Host, LogFormat, MetricsPort, configure_logs
from segserve.private_folders import keep_new_files_private
from segserve.settings import load_settings
from segserve.wire.rest.api import create_operator_api
from segserve.wire.server import Addresses, Server, run_server


def encoder(
    host: Host = None,
    port: Annotated[
        int, typer.Option(envvar="SEGSERVE_ENCODER_PORT", help="Port for gRPC; 0 takes a free one.")
    ] = 8010,
    metrics_port: MetricsPort = 8011,
    data_dir: DataDir = None,
    log_format: LogFormat = None,
) -> None:
    """Start an encoder worker.

    It encodes images for services that name it in SEGSERVE_ENCODER_URL. It needs the same Redis, object store and
    models as they do.
    """
    settings = load_settings(host=host, data_dir=data_dir, log_format=log_format)
    configure_logs(settings)
    keep_new_files_private()
    service = EncodingService(settings)

    def print_addresses(addresses: Addresses) -> None:
        print(
            f"segserve encodes at {addresses.grpc}   (metrics: {addresses.rest}/metrics)",
            file=sys.stderr,
            flush=True,
        )

    api = create_operator_api(service)
    run_server(Server(service, api, metrics_port, port, on_started=print_addresses))
