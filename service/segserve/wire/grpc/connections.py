"""The connections of the gRPC server, which gRPC neither lists nor closes: they are found among the open files."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from segserve.wire.client_address import (
    LOCAL_CLIENT,
    Networks,
    client_of_address,
    is_in_networks,
    read_forwarded_for,
)

OPEN_FILES = Path("/dev/fd")  # on Linux and macOS


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
        try:
            link = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # no socket, or closed meanwhile
            continue
        try:
            if link.family in (socket.AF_INET, socket.AF_INET6) and link.getsockname()[1] == port:
                address, peer_port = link.getpeername()[:2]
                yield Peer(plain_address(address), peer_port), link
                continue
        except OSError:  # it listens, or is not connected any more
            pass
        link.close()


def close_connection(port: int, peer: Peer) -> None:
    """End the connection of a peer. gRPC notices that it has ended. Blocks for a millisecond or so."""
    for found, link in find_connections(port):
        with closing(link), suppress(OSError):
            if found == peer:
                link.shutdown(socket.SHUT_RDWR)
