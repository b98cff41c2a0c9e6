"""`segserve serve`: the service, with REST and optionally gRPC."""

import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer
from starlette.types import ASGIApp

from segserve.app import Role, Service
from segserve.commands.common_options import DataDir
from segserve.commands.end_with_parent import stop_when_stdin_closes
from segserve.commands.server_options import EncoderUrl, Host, LogFormat, configure_logs, connect_encoder
from segserve.commands.supervisor import Supervisor, tell_supervisor
from segserve.errors import BadInput
from segserve.private_folders import keep_new_files_private
from segserve.settings import Settings, load_settings
from segserve.wire.frontends.mounting import list_own_ports
from segserve.wire.frontends.own_port import AtRoot
from segserve.wire.http.limits import OPERATOR_CONNECTIONS
from segserve.wire.rest.api import create_api, create_operator_api
from segserve.wire.server import Addresses, OtherPort, Server, run_server

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
Processes = Annotated[
    int | None,
    typer.Option(envvar="SEGSERVE_PROCESSES", help="Processes that answer on the same ports [default: 1]."),
]
Member = Annotated[
    int | None, typer.Option(help="The number of this process among several, from 0.", hidden=True)
]

Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        envvar="SEGSERVE_INSECURE",
        help="Serve without keys where other machines can connect: whoever reaches the address can use all of it.",
    ),
]

TRY_IT = """
segserve answers at {url}   (page: {url}/   routes: {url}/docs)

Try it:
  curl{key} -F file=@{sample} {url}/v1/images
  curl{key} {url}/v1/segment -H 'content-type: application/json' -d '{{"image_id": "ID", "prompts": [{{"points": [[{x}, {y}]]}}]}}'
  curl{key} {url}/v1/segment -H 'content-type: application/json' -H 'accept: image/png' -o mask.png -d '{{"image_id": "ID", "prompts": [{{"points": [[{x}, {y}]]}}]}}'
(ID: the image_id that the first command prints{key_note})
"""
KEY_OPTION, KEY_NOTE = ' -H "Authorization: Bearer $KEY"', "; KEY: what segserve keys add printed"


OPERATORS = "operators"
# What is printed behind the address of a port.
NOTES = {OPERATORS: "   (/livez /readyz /metrics)"}


def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    log_format: LogFormat = None,
    grpc_port: GrpcPort = None,
    operator_port: OperatorPort = None,
    encoder_url: EncoderUrl = None,
    insecure: Insecure = False,
    processes: Processes = None,
    member: Member = None,
) -> None:
    """Start the service.

    Every other setting is an environment variable, SEGSERVE_...: docs/settings.md lists them.
    """
    settings = load_settings(
        host=host,
        port=port,
        data_dir=data_dir,
        log_format=log_format,
        grpc_port=grpc_port,
        operator_port=operator_port,
        encoder_url=encoder_url,
        insecure=insecure or None,
        processes=processes,
    )
    check_exposure(settings)
    configure_logs(settings, member)
    keep_new_files_private()
    if member is not None:
        stop_when_stdin_closes()
        run_service(settings, tell_supervisor, is_shared=True)
    elif settings.processes == 1:
        run_service(settings, partial(print_addresses, settings))
    elif not Supervisor(settings, partial(print_all_addresses, settings)).run():
        raise typer.Exit(1)


def print_addresses(settings: Settings, addresses: Addresses) -> None:
    rest, grpc = addresses.rest, addresses.grpc
    key, note = (KEY_OPTION, KEY_NOTE) if settings.asks_for_keys else ("", "")
    text = TRY_IT.format(url=rest, sample="examples/nuclei.png", x=413, y=190, key=key, key_note=note)
    print(text, file=sys.stderr)
    if grpc is not None:
        option = "-plaintext" if rest.startswith("http:") else "-cacert CA.pem"
        print(f"gRPC at {grpc}   (grpcurl {option} {grpc} list)", file=sys.stderr)
    for name, url in addresses.others.items():
        print(f"{name} at {url}{NOTES.get(name, '')}", file=sys.stderr)
    sys.stderr.flush()


def print_all_addresses(settings: Settings, processes: Sequence[Addresses]) -> None:
    """Print what all processes share, then the ports of operators, which each has for itself."""
    first = processes[0]
    print_addresses(
        settings, replace(first, others={n: u for n, u in first.others.items() if n != OPERATORS})
    )
    for index, addresses in enumerate(processes):
        if OPERATORS in addresses.others:
            url = addresses.others[OPERATORS]
            print(f"{OPERATORS}, process {index}, at {url}{NOTES[OPERATORS]}", file=sys.stderr)
    sys.stderr.flush()


def check_exposure(settings: Settings) -> None:
    """Raise BadInput where other machines could use the service without a key, unless that is wanted."""
    if settings.is_exposed and not settings.asks_for_keys and not settings.insecure:
        raise BadInput(
            f"Whoever reaches {settings.host} could use and delete everything: no keys are asked for.",
            remedy="Set SEGSERVE_KEYS_FILE to a file that 'segserve keys add' makes, or listen on 127.0.0.1, or pass"
            " --insecure where something else keeps others out.",
        )


def run_service(
    settings: Settings, on_started: Callable[[Addresses], None], *, is_shared: bool = False
) -> None:
    """Run the service until SIGTERM or SIGINT.

    on_started: called once it listens. is_shared: other processes answer on the same ports.
    """
    gc.freeze()  # what was imported stays: collections while the service starts need not visit it
    service = Service(settings, connect_encoder(settings), role=Role.API)
    service.warm_up.begin()  # beside the next lines: ONNX Runtime lets other threads run
    api = create_api(service, is_shared=is_shared)
    run_server(
        Server(
            service,
            api,
            settings.port,
            settings.grpc_port,
            other_ports=list_other_ports(service, api),
            on_started=on_started,
            is_shared=is_shared,
        )
    )


def list_other_ports(service: Service, api: ASGIApp) -> list[OtherPort]:
    """Return the ports of operators and frontends. Raises BadInput as `list_own_ports` does."""
    settings = service.settings
    ports = [
        OtherPort(frontend.name, port, AtRoot(api, frontend.prefix), settings.max_connections)
        for frontend, port in list_own_ports(settings)
    ]
    if settings.operator_port is not None:
        operator_api = create_operator_api(service)
        ports.append(
            OtherPort(OPERATORS, settings.operator_port, operator_api, OPERATOR_CONNECTIONS, is_own=True)
        )
    return ports
