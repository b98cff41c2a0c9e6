"""The server process: uvicorn with REST, beside it a gRPC server and ports of operators and of frontends, all started
and stopped together."""

import asyncio
import errno
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar

import structlog
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from segserve import temporary_files
from segserve.app import EncodingService, Role
from segserve.errors import BadInput
from segserve.wire.http.connections import ConnectionLimits
from segserve.wire.http.limits import SPARE_CONNECTIONS
from segserve.wire.http.protocol import create_protocol
from segserve.wire.http.tls_gate import ServerContext
from segserve.wire.tls_files import open_server_files

# After SIGTERM, and the drain if one is set, running requests get this long.
SHUTDOWN_GRACE_S = 20
# Where requests still come when the drain is over, a balancer has not noticed yet, as on a machine that is very busy.
# It gets at most so much longer; the stop then begins after so many ticks of 0.1 s without a request.
MAX_LATE_DRAIN_S = 10
QUIET_TICKS = 10
# Proxies keep idle connections for 60 s. Ours must not close first.
KEEP_ALIVE_S = 75
# Python's default is 5 ms. With 1 ms, threads that decode let the event loop, which all requests wait for, run sooner.
THREAD_SWITCH_INTERVAL_S = 0.001
ACCEPTS_PER_TURN = 16
CLOSE_CONNECTION = (b"connection", b"close")

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Addresses:
    """Where a server can be reached on this machine.

    rest: URL. grpc: host:port, None for no gRPC. others: URLs of the other ports, by their names.
    """

    rest: str
    grpc: str | None
    others: Mapping[str, str]


@dataclass(frozen=True)
class OtherPort:
    """An application on a port of its own.

    name: in metrics and in `Addresses`. port: 0 takes a free one. connections: that are served at the same time.
    is_own: for operators: this process alone listens on it, even where it shares the other ports, and asks nobody for a
    certificate, which probes and Prometheus have not.
    """

    name: str
    port: int
    app: ASGIApp
    connections: int
    is_own: bool = False


class Server(uvicorn.Server):
    """Serves REST, gRPC if it has a port, and what has a port of its own.

    port: of REST; 0 takes a free one.
    grpc_port: None for no gRPC.
    other_ports: of operators and frontends.
    on_started: called once all of them listen.
    is_shared: other processes listen on the same ports, and somebody holds these.
    """

    def __init__(
        self,
        service: EncodingService,
        api: FastAPI,
        port: int,
        grpc_port: int | None,
        *,
        other_ports: Sequence[OtherPort] = (),
        on_started: Callable[[Addresses], None],
        is_shared: bool = False,
    ) -> None:
        self.service, self._grpc_port = service, grpc_port
        self._is_shared = is_shared
        self._own_ports = {other.name for other in other_ports if other.is_own or not is_shared}
        self._on_started = on_started
        self._running: list[AsyncExitStack] = []  # servers on other ports
        self._drained_at: float | None = None  # as `time.monotonic()`, once the process was told to stop
        self._quiet_ticks, self._last_request_at = 0, 0.0
        settings = service.settings
        self._tls_files = files = open_server_files(settings)
        # Probes and Prometheus have no certificate.
        for_users = None if files is None else ServerContext(files, asks_clients=True)
        for_operators = None if files is None else ServerContext(files, asks_clients=False)
        self._others = {
            other.name: uvicorn.Server(
                create_config(
                    service,
                    other.app,
                    other.port,
                    limits,
                    for_operators if other.is_own else for_users,
                )
            )
            for other in other_ports
            for limits in [
                ConnectionLimits(
                    other.connections, 0, settings.max_client_share, service.metrics, port=other.name
                )
            ]
        }
        limits = ConnectionLimits(
            settings.max_connections,
            SPARE_CONNECTIONS,
            settings.max_client_share,
            service.metrics,
            port="rest",
        )
        context = for_users if service.role is Role.API else for_operators
        super().__init__(create_config(service, api, port, limits, context))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the service, then listen.

        Raises BadInput for a port that is in use, and what the service's start raises, after stopping what it started.
        """
        host = self.service.settings.host
        shared = [] if self._is_shared else [self.config.port, self._grpc_port]
        for port in (*shared, *(self._others[name].config.port for name in self._own_ports)):
            check_port_is_free(host, port or 0)
        try:
            await self.service.start()
            await self._listen(host, sockets)
        except BaseException:
            await self.service.stop()
            raise

    async def _listen(self, host: str, sockets: list[socket.socket] | None) -> None:
        await super().startup(bind_shared_port(host, self.config.port) if self._is_shared else sockets)
        await accept_more_per_turn(self)
        grpc_address = None
        for name, server in self._others.items():
            links = None if name in self._own_ports else bind_shared_port(host, server.config.port)
            await self._run(run_beside(server, links))
        if self._grpc_port is not None:
            # Here, since gRPC and its messages take a tenth of a second, which a service without it need not wait for.
            from segserve.wire.grpc.server import serve_grpc

            running = serve_grpc(
                self.service,
                host,
                self._grpc_port,
                self._tls_files,
                grace_s=SHUTDOWN_GRACE_S,
                is_shared=self._is_shared,
            )
            grpc_address = local_address(host, await self._run(running))
        scheme = "http" if self._tls_files is None else "https"
        urls = {name: bound_url(server, scheme) for name, server in self._others.items()}
        self._on_started(Addresses(bound_url(self, scheme), grpc_address, urls))

    async def _run(self, server: AbstractAsyncContextManager[T]) -> T:
        """Run a server on another port until this one stops."""
        stack = AsyncExitStack()
        self._running.append(stack)
        return await stack.enter_async_context(server)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop now. Called ten times a second; uvicorn's signal handlers say that it is time."""
        must_stop = await super().on_tick(counter)
        return must_stop and self._has_drained()

    def _has_drained(self) -> bool:
        """Begin to drain, and return whether that is over: load balancers have had time to leave, and have left."""
        if self._drained_at is None:
            drain_s = self.service.role_options.drain_s
            self._drained_at = time.monotonic() + drain_s
            if drain_s:
                log.info(
                    f"draining: requests are answered for {drain_s:g} s more; a second Ctrl-C does not wait"
                )
                self.service.is_draining = True
                self._close_after_answers()
        late_s = time.monotonic() - self._drained_at
        return self.force_exit or (late_s >= 0 and (self._is_quiet() or late_s >= MAX_LATE_DRAIN_S))

    def _is_quiet(self) -> bool:
        """Return whether no request came for some ticks. Ticks are counted and not seconds: in each the event loop has
        looked for what came meanwhile, also where it is slow."""
        if not self.service.is_draining:
            return True
        last = self.service.request_limits.last_request_at
        self._quiet_ticks = self._quiet_ticks + 1 if last == self._last_request_at else 0
        self._last_request_at = last
        return self._quiet_ticks >= QUIET_TICKS

    def _close_after_answers(self) -> None:
        """Let answers end their connections: clients that keep theirs connect again, to others."""
        if CLOSE_CONNECTION not in self.server_state.default_headers:
            self.config.encoded_headers.append(CLOSE_CONNECTION)
            self.server_state.default_headers = [*self.server_state.default_headers, CLOSE_CONNECTION]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info(
            f"stopping: running requests have {SHUTDOWN_GRACE_S} s to end; a second Ctrl-C does not wait"
        )
        self.service.closing.set()
        self._close_after_answers()
        # All ports at once, so that together they take no longer than one.
        await asyncio.gather(super().shutdown(sockets), *(server.aclose() for server in self._running))
        if not self.force_exit:
            await self.service.stop()


def create_config(
    service: EncodingService,
    api: ASGIApp,
    port: int,
    connections: ConnectionLimits,
    context: ServerContext | None,
) -> uvicorn.Config:
    """context: of TLS; None speaks without it."""
    settings = service.settings
    proxies = [str(network) for network in settings.trusted_proxies]
    return uvicorn.Config(
        api,
        settings.host,
        port,
        http=create_protocol(settings, service.metrics, connections, context),
        ws="none",
        lifespan="off",  # `Server` starts and stops the service
        log_level="warning",
        access_log=False,
        # uvicorn would trust every client on loopback, which may then be whoever it wants.
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        server_header=False,
    )


@asynccontextmanager
async def run_beside(
    server: uvicorn.Server, sockets: list[socket.socket] | None = None
) -> AsyncIterator[None]:
    """Let a second uvicorn server listen in this event loop while the block runs. The first one has the signals.

    sockets: bound ones to listen on; None binds its own.

    Exits the process, as uvicorn does, where it cannot listen.
    """
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup(sockets)
    try:
        yield
    finally:
        await server.shutdown()


async def accept_more_per_turn(server: uvicorn.Server) -> None:
    """Listen several times on the sockets that a started server listens on.

    uvloop accepts one connection for each listener in a turn of the event loop, first come first served. So a burst of
    one client's connections would keep everybody else waiting for as many turns.
    """
    config = server.config

    def create() -> asyncio.Protocol:
        protocol: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=server.server_state, app_state=server.lifespan.state
        )
        return protocol

    loop = asyncio.get_running_loop()
    for listener in [link for running in server.servers for link in running.sockets]:
        for _ in range(ACCEPTS_PER_TURN - 1):
            again = socket.socket(listener.family, listener.type, fileno=os.dup(listener.fileno()))
            server.servers.append(await loop.create_server(create, sock=again, backlog=config.backlog))


def bound_url(server: uvicorn.Server, scheme: str) -> str:
    """The URL, for clients on this machine, at which a server listens."""
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    return f"{scheme}://{local_address(host, port)}"


def local_address(host: str, port: int) -> str:
    """The address, host:port, for clients on this machine."""
    try:
        name = "127.0.0.1" if ip_address(host).is_unspecified else host
    except ValueError:  # the host is a name
        name = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def check_port_is_free(host: str, port: int) -> None:
    """Check that this process can listen on a port, before anything is started. 0 stands for a free one.

    Raises BadInput.
    """
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                # As servers do: connections that have just ended do not keep the port.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        raise BadInput(
            f"Port {port} of {host} is in use by another program."
            if is_taken
            else f"Cannot listen on {local_address(host, port)}: {error.strerror}.",
            remedy="Stop that program, or choose another port; 0 takes a free one."
            if is_taken
            else "Choose another --host or port.",
        ) from None


def bind_shared_port(host: str, port: int) -> list[socket.socket]:
    """Return sockets, one for each address of the host, that are bound to a port which several processes may bind.

    None of them listens yet. port: 0 takes a free one.
    """
    bound: list[socket.socket] = []
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        link = socket.socket(family, kind, protocol)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken = bound[0].getsockname()[1] if bound else port
        link.bind((address[0], taken, *address[2:]))
        bound.append(link)
    return bound


def raise_open_files_limit() -> None:
    """Let this process open as many files as it may. Each connection is one, and the usual limit is 1024."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS names no number that it accepts
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def run_server(server: Server) -> None:
    """Run until SIGTERM or SIGINT."""
    raise_open_files_limit()
    sys.setswitchinterval(THREAD_SWITCH_INTERVAL_S)
    # uvicorn raises the signal again after its shutdown. The process then ends with 0: to be stopped is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with temporary_files.private_temporary_folder(server.service.settings.data_dir / "tmp"):
        server.run()
