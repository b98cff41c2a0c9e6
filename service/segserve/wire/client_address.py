"""Who a request comes from: the address of the connection, or the one that a trusted proxy names."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import Scope

from segserve.current_client import Client
from segserve.identity.identity import LOCAL_IDENTITY, Identity

# A provider gives each customer at least so much of IPv6 (RFC 6177): one client commands all addresses of it.
CLIENT_IPV6_PREFIX = 64
# The client where there is no IP address: a connection over a unix socket.
LOCAL_CLIENT = "local"

Networks = Sequence[IPv4Network | IPv6Network]


@lru_cache(maxsize=4096)  # of addresses; each request asks, and the parsing takes some microseconds
def client_of_address(address: str | None) -> str:
    """Return the client that an IP address belongs to: IPv4 addresses are clients, of IPv6 each /64 is one.

    address: as the socket or a proxy names it, perhaps with a zone. What is no IP address is a client as it stands.
    """
    if not address:
        return LOCAL_CLIENT
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Network((parsed, CLIENT_IPV6_PREFIX), strict=False))
    return str(parsed)


def client_of_scope(scope: Scope) -> str:
    """Return the client that sends a request, as `client_of_address` names it."""
    address = scope.get("client")
    return client_of_address(address[0] if address else None)


def find_client(identity: Identity, address: str) -> Client:
    """Return the client that an identity is at an address, as `client_of_address` returns it.

    Two keys at one address are two clients, and so is one key at two.
    """
    source = address if identity is LOCAL_IDENTITY else f"{identity.name}@{address}"
    return Client(identity.tenant, source)


def is_in_networks(address: str | None, networks: Networks) -> bool:
    """Return whether an IP address is in one of the networks."""
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return any((mapped or parsed) in network for network in networks)


def read_forwarded_for(header: str, proxies: Networks) -> str | None:
    """Return the client's address of a header X-Forwarded-For: the last one that is no proxy's.

    Each proxy adds the address that it was called from at the end. What stands before is the client's own claim.
    """
    addresses = [part.strip() for part in header.split(",")]
    return next((a for a in reversed(addresses) if a and not is_in_networks(a, proxies)), None)
