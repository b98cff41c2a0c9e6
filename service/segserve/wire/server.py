"""The processes: uvicorn with gRPC beside it, started and stopped together."""

import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI

from segserve import temporary_files
from segserve.app import Service
from segserve.wire.grpc import server as grpc_server
from segserve.wire.http.protocol import limited

GRACE_S = 20
SWITCH_S = 0.001


class Server(uvicorn.Server):
    """grpc_port: None for REST alone. started_at: called with what both listen on, once both do."""

    def __init__(
        self,
        service: Service,
        api: FastAPI,
        port: int,
        grpc_port: int | None,
        *,
        worker: bool,
        started_at: Callable[[str, str | None], None],
    ) -> None:
        self.service, self._grpc_port, self._worker = service, grpc_port, worker
        self._started_at = started_at
        self._grpc = AsyncExitStack()
        super().__init__(
            uvicorn.Config(
                api,
                service.settings.host,
                port,
                http=limited(service.settings, service.metrics),
                ws="none",
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=GRACE_S,
                timeout_keep_alive=75,  # longer than the 60 s for which proxies keep idle connections
                server_header=False,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        host, target = self.service.settings.host, None
        if self._grpc_port is not None:
            running = grpc_server.serve_grpc(
                self.service, host, self._grpc_port, worker=self._worker, grace_s=GRACE_S
            )
            target = address(host, await self._grpc.enter_async_context(running))
        bound = self.servers[0].sockets[0].getsockname()
        self._started_at(f"http://{address(bound[0], bound[1])}", target)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.closing.set()
        await self._grpc.aclose()  # calls that run are finished first; REST's wait for theirs next
        await super().shutdown(sockets)


def address(host: str, port: int) -> str:
    """Where somebody on this machine finds it."""
    try:
        here = "127.0.0.1" if ip_address(host).is_unspecified else host
    except ValueError:  # a name
        here = host
    return f"[{here}]:{port}" if ":" in here else f"{here}:{port}"


def run_server(server: Server) -> None:
    """Until told to stop.

    Threads that decode give the interpreter back every millisecond instead of every five, so that the event
    loop, which everybody waits for, gets its turn.
    """
    sys.setswitchinterval(SWITCH_S)
    # uvicorn raises the signal again once it has shut down; being told to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with temporary_files.private_temporary_folder(server.service.settings.data_dir / "tmp"):
        server.run()
