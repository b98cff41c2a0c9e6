"""The server process: uvicorn with REST and a gRPC server beside it, started and stopped together."""

import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI

from segserve import temporary_files
from segserve.app import EncodingService
from segserve.wire.grpc.server import serve_grpc
from segserve.wire.http.protocol import create_protocol

# After SIGTERM running requests get this long.
SHUTDOWN_GRACE_S = 20
# Proxies keep idle connections for 60 s. Ours must not close first.
KEEP_ALIVE_S = 75
# Python's default is 5 ms. With 1 ms, threads that decode let the event loop, which all requests wait for, run sooner.
THREAD_SWITCH_INTERVAL_S = 0.001


class Server(uvicorn.Server):
    """Serves REST, and gRPC if it has a port.

    port: of REST; 0 takes a free one.
    grpc_port: None for no gRPC.
    on_started: called with the URL of REST and the address of gRPC, once both listen.
    """

    def __init__(
        self,
        service: EncodingService,
        api: FastAPI,
        port: int,
        grpc_port: int | None,
        *,
        on_started: Callable[[str, str | None], None],
    ) -> None:
        self.service, self._grpc_port = service, grpc_port
        self._on_started = on_started
        self._grpc = AsyncExitStack()
        super().__init__(
            uvicorn.Config(
                api,
                service.settings.host,
                port,
                http=create_protocol(service.settings, service.metrics),
                ws="none",
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
                timeout_keep_alive=KEEP_ALIVE_S,
                server_header=False,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        host, grpc_address = self.service.settings.host, None
        if self._grpc_port is not None:
            running = serve_grpc(self.service, host, self._grpc_port, grace_s=SHUTDOWN_GRACE_S)
            grpc_address = local_address(host, await self._grpc.enter_async_context(running))
        bound = self.servers[0].sockets[0].getsockname()
        self._on_started(f"http://{local_address(bound[0], bound[1])}", grpc_address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.closing.set()
        await self._grpc.aclose()  # waits for running calls; the next line waits for REST's
        await super().shutdown(sockets)


def local_address(host: str, port: int) -> str:
    """The address, host:port, for clients on this machine."""
    try:
        name = "127.0.0.1" if ip_address(host).is_unspecified else host
    except ValueError:  # the host is a name
        name = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def run_server(server: Server) -> None:
    """Run until SIGTERM or SIGINT."""
    sys.setswitchinterval(THREAD_SWITCH_INTERVAL_S)
    # uvicorn raises the signal again after its shutdown. The process then ends with 0: to be stopped is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with temporary_files.private_temporary_folder(server.service.settings.data_dir / "tmp"):
        server.run()
