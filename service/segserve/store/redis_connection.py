"""Connections to Redis: to one server, to the master that Sentinels name, or to a cluster."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import redis.asyncio as redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import AuthenticationError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from segserve.errors import BadInput
from segserve.store.redis_url import (
    ClusterAddress,
    is_cluster_url,
    is_sentinel_url,
    parse_cluster_url,
    parse_sentinel_url,
)

# What a command may raise. The one of clusters is no RedisError. RuntimeError is uvloop's, where redis-py's client of a
# cluster closes a connection to a node that failed while another command is about to use it.
REDIS_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)
# Commands at the same time; more wait for a free connection.
MAX_CONNECTIONS = 64
# The client of a cluster lets nobody wait, and has as many connections to each node.
MAX_NODE_CONNECTIONS = 1024
# How often a command is sent to a cluster again, each time after the nodes were listed anew.
CLUSTER_RETRIES = 2
CLUSTER_OPTIONS: dict[str, Any] = {
    # A node that is away takes the keys of its slots with it, no others.
    "require_full_coverage": False,
    "max_connections": MAX_NODE_CONNECTIONS,
    "retry": Retry(ConstantBackoff(0), CLUSTER_RETRIES),
}


class BlockingSentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """Connections to the master that Sentinels name. Each new connection asks them who it is.

    Where all connections are in use, the next command waits.
    """

    sentinel_manager: Sentinel

    async def aclose(self) -> None:
        await super().aclose()
        for client in self.sentinel_manager.sentinels:
            await client.aclose()


class ClusterClient(RedisCluster):
    """A client of a cluster, which sends each command to the node that has its key."""

    def __init__(self, address: ClusterAddress, timeout_s: float) -> None:
        self._options = {**timeouts(timeout_s), **address.options}
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in address.nodes],
            **CLUSTER_OPTIONS,
            **self._options,
        )

    async def connect_to_any_node(self) -> redis.Redis:
        """Return a client of one node: each of them passes on what is published on any of them."""
        return random.choice(await self.connect_to_nodes())  # noqa: S311  # no secret

    async def connect_to_nodes(self) -> list[redis.Redis]:
        """Return a client of each node that has keys, replicas left out. None of them has connected yet."""
        await self.initialize()
        nodes = self.get_primaries()
        return [redis.Redis(host=node.host, port=int(node.port), **self._options) for node in nodes]


def open_connection_pool(url: str, timeout_s: float, setting: str) -> redis.BlockingConnectionPool:
    """Return a pool of connections, opened when needed. setting: that names the URL.

    Raises BadInput if the URL is not that of a server or of Sentinels.
    """
    options: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "timeout": timeout_s,
        **timeouts(timeout_s),
        # One immediate retry covers a connection that a restarted server has closed. Timeouts are not retried: a hung
        # server is not asked twice.
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    }
    try:
        if is_sentinel_url(url):
            address = parse_sentinel_url(url)
            sentinel_options = {**timeouts(timeout_s), **address.sentinel_options}
            manager = Sentinel(address.sentinels, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
            options |= address.options
            pool: redis.BlockingConnectionPool
            pool = BlockingSentinelPool(address.service, manager, **options)  # type: ignore[no-untyped-call]
        else:
            pool = redis.BlockingConnectionPool.from_url(url, **options)
        pool.make_connection()  # type: ignore[no-untyped-call]  # not opened yet: it tells options that there are none of
    except (ValueError, TypeError) as error:
        raise bad_address(setting, error) from None
    return pool


def connect_redis(url: str, timeout_s: float, setting: str) -> redis.Redis:
    """Return a client of a server, of a Sentinels' master, or of a cluster, which answers the same commands.

    It decodes nothing: what its types call `bytes | str` is bytes. Raises BadInput.
    """
    if not is_cluster_url(url):
        return redis.Redis.from_pool(open_connection_pool(url, timeout_s, setting))
    try:
        return cast(redis.Redis, ClusterClient(parse_cluster_url(url), timeout_s))
    except (ValueError, TypeError) as error:
        raise bad_address(setting, error) from None


async def scan_keys(client: redis.Redis, pattern: str, count: int) -> AsyncIterator[bytes]:
    """Yield the keys that match a pattern, of all nodes of a cluster. count: to look at in one command."""
    nodes = await client.connect_to_nodes() if isinstance(client, ClusterClient) else [client]
    for node in nodes:
        async for key in node.scan_iter(match=pattern, count=count):
            yield key
        if node is not client:
            await node.aclose()


@asynccontextmanager
async def subscribe(client: redis.Redis, *channels: str) -> AsyncIterator[PubSub]:
    """Yield a connection that receives what is published on these channels."""
    if not isinstance(client, ClusterClient):
        async with client.pubsub(ignore_subscribe_messages=True) as subscriber:
            await subscriber.subscribe(*channels)
            yield subscriber
        return
    node = await client.connect_to_any_node()
    async with node, node.pubsub(ignore_subscribe_messages=True) as subscriber:
        await subscriber.subscribe(*channels)
        yield subscriber


def timeouts(timeout_s: float) -> dict[str, float]:
    return {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}


def bad_address(setting: str, error: Exception) -> BadInput:
    # A library's TypeError names its own functions.
    reason = "it has an option that there is not" if isinstance(error, TypeError) else str(error)
    return BadInput(
        f"The Redis address cannot be used: {reason}.",
        field=setting,
        remedy=f"Set {setting} to a URL such as redis://host:6379/0; docs/several-machines.md shows the others.",
    )


async def check_password(url: str, timeout_s: float, setting: str) -> None:
    """Raise BadInput where a Redis answers that it knows no such user or password. That does not pass by itself.

    One that does not answer may come back, and is no error here.
    """
    client = connect_redis(url, timeout_s, setting)
    try:
        await client.ping()
    except REDIS_ERRORS as error:
        if is_refusal(error):
            raise BadInput(
                f"The Redis of {setting} refuses the user or the password.",
                field=setting,
                remedy="Set them in the URL: redis://:password@host:6379/0, or redis://user:password@host:6379/0.",
            ) from None
    finally:
        await client.aclose()


def is_refusal(error: BaseException | None) -> bool:
    """Return whether a Redis refused the user or the password. A connection's error is the cause of the command's."""
    while error is not None and not isinstance(error, AuthenticationError):
        error = error.__cause__
    return error is not None
