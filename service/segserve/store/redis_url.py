"""Redis URLs: of one server, of the master that Sentinels name, or of a cluster.

    redis://user:password@host:6379/0                             rediss:// with TLS, unix:// for a socket
    redis+sentinel://user:password@host1:26379,host2:26379/name/0 rediss+sentinel:// with TLS
    redis+cluster://user:password@host1:6379,host2:6379           rediss+cluster:// with TLS

The second form is that of pydocket, which reads the URL of the jobs too. Options after "?" are those of redis-py, such
as ssl_ca_certs, ssl_certfile and ssl_keyfile; sentinel_username and sentinel_password are for the Sentinels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio.connection import parse_url

SENTINEL_PORT = 26379
REDIS_PORT = 6379
# Options of the URL that are only for the connections to Sentinels.
SENTINEL_OPTIONS = {"sentinel_username": "username", "sentinel_password": "password"}


@dataclass(frozen=True)
class SentinelAddress:
    """The master that Sentinels name.

    sentinels: (host, port) of each Sentinel. service: the name under which they watch the master.
    options: of connections to the master. sentinel_options: of connections to the Sentinels.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any]
    sentinel_options: dict[str, Any]


@dataclass(frozen=True)
class ClusterAddress:
    """A cluster. nodes: (host, port) of those that are asked for the others. options: of all connections."""

    nodes: tuple[tuple[str, int], ...]
    options: dict[str, Any]


def is_sentinel_url(url: str) -> bool:
    return url.partition("://")[0] in ("redis+sentinel", "rediss+sentinel")


def is_cluster_url(url: str) -> bool:
    return url.partition("://")[0] in ("redis+cluster", "rediss+cluster")


def parse_sentinel_url(url: str) -> SentinelAddress:
    """Raises ValueError, whose text names no secret."""
    hosts, rest = split_hosts(url)
    service, _, database = rest.path.strip("/").partition("/")
    if not service:
        raise ValueError("the name of the master is missing: redis+sentinel://host:26379/mymaster/0")
    if database and not database.isdecimal():
        raise ValueError("the database is no number")
    query = parse_qsl(rest.query)
    options = read_options(rest, [(name, value) for name, value in query if name not in SENTINEL_OPTIONS])
    # A private authority signs the certificates of the Sentinels too.
    sentinel_options = {name: value for name, value in options.items() if name.startswith("ssl")}
    sentinel_options |= {SENTINEL_OPTIONS[name]: value for name, value in query if name in SENTINEL_OPTIONS}
    return SentinelAddress(
        tuple(parse_hosts(hosts, SENTINEL_PORT)),
        service,
        {**options, "db": int(database or 0)},
        sentinel_options,
    )


def parse_cluster_url(url: str) -> ClusterAddress:
    """Raises ValueError, whose text names no secret."""
    hosts, rest = split_hosts(url)
    if rest.path.strip("/") not in ("", "0"):
        raise ValueError("a cluster has only the database 0")
    return ClusterAddress(tuple(parse_hosts(hosts, REDIS_PORT)), read_options(rest, parse_qsl(rest.query)))


def split_hosts(url: str) -> tuple[str, SplitResult]:
    """Return the list of hosts, and the URL with another host in its place: the standard library reads only one."""
    scheme, _, rest = url.partition("://")
    end = min((index for mark in "/?#" if (index := rest.find(mark)) >= 0), default=len(rest))
    user, at, hosts = rest[:end].rpartition("@")
    return hosts, urlsplit(f"{scheme}://{user}{at}hosts{rest[end:]}")


def parse_hosts(text: str, default_port: int) -> Iterator[tuple[str, int]]:
    """Yield (host, port) of each member of "host1:6379,[::1]:6380,host3"."""
    for member in text.split(","):
        try:
            parts = urlsplit(f"//{member.strip()}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host:
            raise ValueError("its hosts are not of the form host1:port1,host2:port2")
        yield host, default_port if port is None else port


def read_options(url: SplitResult, query: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the options of connections: of the query, as redis-py reads them, and user, password and TLS."""
    options: dict[str, Any] = dict(parse_url(f"redis://?{urlencode(query)}"))
    for name in ("db", "host", "port", "username", "password", "connection_class"):
        options.pop(name, None)
    if url.username:
        options["username"] = unquote(url.username)
    if url.password:
        options["password"] = unquote(url.password)
    if url.scheme.startswith("rediss"):
        options["ssl"] = True
    return options
