"""The connections of the gRPC server, which gRPC neither lists nor closes: they are found among the open files."""

import asyncio
import os
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from ipaddress import IPv6Address, ip_address
from math import ceil
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from segserve.metrics import Metrics
from segserve.settings import Settings
from segserve.wire.client_address import (
    LOCAL_CLIENT,
    Networks,
    client_of_address,
    is_in_networks,
    read_forwarded_for,
)

OPEN_FILES = Path("/dev/fd")  # on Linux and macOS
# How long a client may have more connections than its share.
CHECK_INTERVAL_S = 0.25


class Peer(NamedTuple):
    """The other end of a connection."""

    address: str
    port: int


def peer_of_call(peer: str) -> Peer | None:
    """Return the peer of a call. peer: as gRPC names it: ipv4:192.0.2.1:5000 or ipv6:%5B2001:db8::1%5D:5000."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None
    address, _, port = unquote(rest).rpartition(":")
    return Peer(plain_address(address.strip("[]")), int(port))


def plain_address(address: str) -> str:
    """Return an IP address without its zone, and as IPv4 where it is that."""
    parsed = ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def client_of_call(peer: str, forwarded_for: str | None, proxies: Networks) -> str:
    """Return the client of a call. forwarded_for: the metadata x-forwarded-for, which counts if the peer is a proxy."""
    connection = peer_of_call(peer)
    if connection is None:
        return LOCAL_CLIENT
    address = connection.address
    if forwarded_for and is_in_networks(address, proxies):
        address = read_forwarded_for(forwarded_for, proxies) or address
    return client_of_address(address)


def find_connections(port: int) -> Iterator[tuple[Peer, socket.socket]]:
    """Yield the TCP connections of this process to one of its ports. The caller closes the socket, which is a copy."""
    for name in os.listdir(OPEN_FILES):
        if (link := copy_socket(int(name))) is None:
            continue
        try:
            if link.family in (socket.AF_INET, socket.AF_INET6) and link.getsockname()[1] == port:
                address, peer_port = link.getpeername()[:2]
                yield Peer(plain_address(address), peer_port), link
                continue
        except OSError:  # it listens, or is not connected any more
            pass
        link.close()


def copy_socket(number: int) -> socket.socket | None:
    """Return a copy of an open file if it is a socket."""
    try:
        copy = os.dup(number)
    except OSError:  # closed meanwhile
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:  # no socket
        os.close(copy)
        return None


class ConnectionWatch:
    """`ConnectionWatch` ends connections of clients that have more than their share. gRPC itself limits only all
    connections together, so that one client could keep the others out.

    Idle ones end first, the oldest before the others; then those with calls, the newest first.

    settings: max_connections and max_client_share, which hold for each port. Trusted proxies have no share.
    """

    def __init__(self, settings: Settings, metrics: Metrics, port: int) -> None:
        self._max_client_connections = ceil(settings.max_connections * settings.max_client_share)
        self._proxies, self._metrics, self._port = settings.trusted_proxies, metrics, port
        self._calls: Counter[Peer] = Counter()
        self._first_seen: dict[Peer, float] = {}

    @contextmanager
    def call(self, peer: Peer | None) -> Iterator[None]:
        """Note that a connection has a call while the block runs."""
        if peer is None:
            yield
            return
        self._calls[peer] += 1
        try:
            yield
        finally:
            self._calls[peer] -= 1
            if not self._calls[peer]:
                del self._calls[peer]

    def end(self, peer: Peer) -> None:
        """End a connection. gRPC notices that it has ended. Blocks for a millisecond or so."""
        for found, link in find_connections(self._port):
            with closing(link), suppress(OSError):
                if found == peer:
                    link.shutdown(socket.SHUT_RDWR)

    async def run(self) -> None:
        """Check all connections again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "grpc-connections") as thread:
            while True:
                open_count, ended = await loop.run_in_executor(thread, self._end_surplus, set(self._calls))
                self._metrics.connections.set_open("grpc", open_count)
                for phase in ended:
                    self._metrics.connections.count_shed(phase)
                await asyncio.sleep(CHECK_INTERVAL_S)

    def _end_surplus(self, busy: set[Peer]) -> tuple[int, list[str]]:
        """Return how many connections are open, and for each one that was ended what it did. Blocks.

        busy: connections with calls.
        """
        now, ended = time.monotonic(), list[str]()
        with ExitStack() as stack:
            found = dict(find_connections(self._port))
            for link in found.values():
                stack.enter_context(closing(link))
            self._first_seen = {peer: self._first_seen.get(peer, now) for peer in found}
            by_client = defaultdict[str, list[Peer]](list)
            for peer in found:
                if not is_in_networks(peer.address, self._proxies):
                    by_client[client_of_address(peer.address)].append(peer)
            for peers in by_client.values():
                surplus = len(peers) - self._max_client_connections
                if surplus > 0:
                    peers.sort(key=lambda peer: self._rank(peer, is_busy=peer in busy))
                    for peer in peers[:surplus]:
                        with suppress(OSError):
                            found[peer].shutdown(socket.SHUT_RDWR)
                        ended.append("busy" if peer in busy else "idle")
        return len(found) - len(ended), ended

    def _rank(self, peer: Peer, *, is_busy: bool) -> tuple[bool, float]:
        """The first in order ends first."""
        since = self._first_seen[peer]
        return is_busy, -since if is_busy else since
