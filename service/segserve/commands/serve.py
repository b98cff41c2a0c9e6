"""`segserve serve`: the service, with REST and optionally gRPC."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from segserve.app import Role, Service
from segserve.commands.common_options import DataDir
from segserve.commands.server_options import EncoderUrl, Host, LogFormat, configure_logs, connect_encoder
from segserve.private_folders import keep_new_files_private
from segserve.settings import Settings, load_settings
from segserve.wire.rest.api import create_api, create_operator_api
from segserve.wire.server import Addresses, Server, run_server

Port = Annotated[
    int | None,
    typer.Option(envvar="SEGSERVE_PORT", help="Port for REST; 0 takes a free one [default: 8000]."),
]
GrpcPort = Annotated[
    int | None,
    typer.Option(envvar="SEGSERVE_GRPC_PORT", help="Port for gRPC; 0 takes a free one [default: no gRPC]."),
]
OperatorPort = Annotated[
    int | None,
    typer.Option(
        envvar="SEGSERVE_OPERATOR_PORT",
        help="Port of its own for /livez, /readyz and /metrics; 0 takes a free one [default: none].",
    ),
]

TRY_IT = """
segserve answers at {url}   (page: {url}/   routes: {url}/docs)

Try it:
  curl -F file=@{sample} {url}/v1/images
  curl {url}/v1/segment -H 'content-type: application/json' -d '{{"image_id": "ID", "prompts": [{{"points": [[{x}, {y}]]}}]}}'
  curl {url}/v1/segment -H 'content-type: application/json' -H 'accept: image/png' -o mask.png -d '{{"image_id": "ID", "prompts": [{{"points": [[{x}, {y}]]}}]}}'
(ID: the image_id that the first command prints)
"""


def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    log_format: LogFormat = None,
    grpc_port: GrpcPort = None,
    operator_port: OperatorPort = None,
    encoder_url: EncoderUrl = None,
) -> None:
    """Start the service.

    Every other setting is an environment variable, SEGSERVE_...: docs/operate.md lists them.
    """
    settings = load_settings(
        host=host,
        port=port,
        data_dir=data_dir,
        log_format=log_format,
        grpc_port=grpc_port,
        operator_port=operator_port,
        encoder_url=encoder_url,
    )
    configure_logs(settings)
    keep_new_files_private()

    def print_addresses(addresses: Addresses) -> None:
        rest, grpc = addresses.rest, addresses.grpc
        print(TRY_IT.format(url=rest, sample="examples/nuclei.png", x=413, y=190), file=sys.stderr)
        if grpc is not None:
            print(f"gRPC at {grpc}   (grpcurl -plaintext {grpc} list)", file=sys.stderr)
        if addresses.operators is not None:
            print(f"operators at {addresses.operators}   (/livez /readyz /metrics)", file=sys.stderr)
        sys.stderr.flush()

    run_service(settings, print_addresses)


def run_service(settings: Settings, on_started: Callable[[Addresses], None]) -> None:
    """Run the service until SIGTERM or SIGINT. on_started: called once it listens."""
    service = Service(settings, connect_encoder(settings), role=Role.API)
    run_server(
        Server(
            service,
            create_api(service),
            settings.port,
            settings.grpc_port,
            operator_api=create_operator_api(service),
            on_started=on_started,
        )
    )
