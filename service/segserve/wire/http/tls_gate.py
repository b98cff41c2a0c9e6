"""TLS before uvicorn's HTTP protocol: certificates that change, and handshakes that count as connections.

uvicorn's own TLS reads its files once, gives a handshake a minute, and sees a connection only after it: whoever begins
handshakes and never ends them would hold as many open as there are files.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from segserve.errors import BadInput
from segserve.metrics import Metrics
from segserve.settings import Settings
from segserve.wire.client_address import client_of_address, is_in_networks
from segserve.wire.http.connections import ConnectionLimits
from segserve.wire.tls_files import SERVER_NAMES, CertificateFiles, Certificates, load_authorities

MIN_VERSION = ssl.TLSVersion.TLSv1_2


class ServerContext:
    """`ServerContext` is the TLS context of listening ports, whose certificate follows its files.

    asks_clients: whether a client must have a certificate of the authorities, where there are any.
    """

    def __init__(self, files: CertificateFiles, *, asks_clients: bool) -> None:
        self._files, self._asks_clients = files, asks_clients
        self._newest = self._create(files.current())
        self.listening = self._create(files.current())
        # Called in each handshake, whether the client names a server or not.
        self.listening.sni_callback = self._take_newest

    def _create(self, certificates: Certificates) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = MIN_VERSION
        context.set_alpn_protocols(["http/1.1"])
        assert self._files.cert_path is not None
        context.load_cert_chain(self._files.cert_path, self._files.key_path)
        if self._asks_clients and certificates.ca is not None:
            load_authorities(context, certificates, SERVER_NAMES[2])
            context.verify_mode = ssl.CERT_REQUIRED
            # A session that is resumed would not be asked again, whatever authorities there are by then.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        self._version = certificates.version
        return context

    def _take_newest(self, link: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        certificates = self._files.current()
        if certificates.version != self._version:
            # A file may be replaced again just now: then the next handshake takes it.
            with suppress(OSError, BadInput):
                self._newest = self._create(certificates)
        link.context = self._newest


class TlsGate(asyncio.Protocol):
    """One connection until its handshake is complete. It takes the place of the connection that follows.

    create: called with `handshake`, this gate, to create the protocol behind it.
    """

    client_key: str | None = None

    def __init__(
        self,
        context: ServerContext,
        create: Callable[..., asyncio.Protocol],
        settings: Settings,
        metrics: Metrics,
        limits: ConnectionLimits,
        **uvicorn: Any,
    ) -> None:
        self._context, self._create, self._uvicorn = context, create, uvicorn
        self._timeout_s, self._trusted_proxies = settings.header_timeout_s, settings.trusted_proxies
        self._metrics, self._limits = metrics, limits
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else None
        is_proxy = is_in_networks(address, self._trusted_proxies)
        self.client_key = None if is_proxy else client_of_address(address)
        if not self._limits.admit(self):
            self._metrics.requests.count_rejection("connections")
            transport.abort()
            return
        # The event loop does handshakes of sockets that it has not begun to read: it gets a copy of this one.
        link = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        link.setblocking(False)
        transport.abort()
        self._handshake = asyncio.get_running_loop().create_task(self._shake_hands(link))

    async def _shake_hands(self, link: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._create(handshake=self, **self._uvicorn),
                link,
                ssl=self._context.listening,
                ssl_handshake_timeout=self._timeout_s,
            )
        except OSError:  # of TLS and of the network, and a handshake that takes too long
            self._metrics.requests.count_rejection("tls")
            link.close()
        except asyncio.CancelledError:
            link.close()
            raise
        finally:
            self.leave()

    def leave(self) -> None:
        """Free the place: the connection behind the gate takes one of its own."""
        self._limits.remove(self)

    def shed(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
