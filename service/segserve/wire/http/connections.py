"""The open connections of one HTTP port: how many there may be, in all and of one client, and which ones give way.

Where there is no room for a new connection, one is closed that does nothing: it waits between two requests, or its
client is slow to send one. So idle connections, of which a browser or a pool keeps many, never keep anybody out.
"""

import time
from collections import OrderedDict
from enum import IntEnum
from math import ceil
from typing import Protocol

from segserve.metrics import Metrics
from segserve.wire.http.fair_start import FairStart
from segserve.wire.http.limits import (
    BURST_CONNECTIONS,
    BURST_REQUESTS,
    CONNECTION_INTERVAL_S,
    REQUEST_INTERVAL_S,
)

# A body is stalled if nothing of it came for this long.
STALLED_S = 2.0


class Phase(IntEnum):
    """What a connection does. Those of the lower phases give way first."""

    IDLE = 0  # between two requests
    HEADERS = 1  # of a request are expected, or incomplete
    BODY = 2  # of a request is incomplete
    ANSWERING = 3  # all of the request is here

    @property
    def label(self) -> str:
        return self.name.lower()


class Connection(Protocol):
    """A connection, as `ConnectionLimits` needs it.

    client: of `client_of_address`; None is a trusted proxy, which speaks for many clients and has no share.
    """

    client_key: str | None

    def shed(self) -> None:
        """Close at once, without an answer."""


class ClientConnections:
    """The connections of one client by phase, each with the time of its last progress, oldest first."""

    def __init__(self) -> None:
        self.by_phase: dict[Phase, OrderedDict[Connection, float]] = {p: OrderedDict() for p in Phase}
        self.phases: dict[Connection, Phase] = {}

    def __len__(self) -> int:
        return len(self.phases)

    def put(self, connection: Connection, phase: Phase) -> None:
        """Add a connection, or note that it has made progress."""
        self.remove(connection)
        self.phases[connection] = phase
        self.by_phase[phase][connection] = time.monotonic()

    def remove(self, connection: Connection) -> None:
        if (phase := self.phases.pop(connection, None)) is not None:
            del self.by_phase[phase][connection]

    def find_sheddable(self) -> tuple[Connection, Phase] | None:
        """Return the connection that does nothing, for the longest time in the lowest phase."""
        for phase in (Phase.IDLE, Phase.HEADERS, Phase.BODY):
            for connection, since in self.by_phase[phase].items():
                if phase is Phase.BODY and time.monotonic() - since < STALLED_S:
                    break  # all others of this phase sent something later
                return connection, phase
        return None


class ConnectionLimits:
    """`ConnectionLimits` admits connections. For one thread: the event loop's.

    max_connections: that are served. spare: more that are accepted, so that operators are answered and others read a
    refusal; they are surplus. max_client_share: of either that one client may hold. Trusted proxies may hold all.

    Connections of a client that opens many at once are read from in turn: `connection_starts`. So are requests begun.
    """

    def __init__(
        self, max_connections: int, spare: int, max_client_share: float, metrics: Metrics, *, port: str
    ) -> None:
        self._served = ConnectionPool(max_connections, max_client_share)
        self._surplus = ConnectionPool(spare, max_client_share)
        self._metrics, self._port = metrics, port
        self.connection_starts = FairStart(BURST_CONNECTIONS, CONNECTION_INTERVAL_S)
        self.request_starts = FairStart(BURST_REQUESTS, REQUEST_INTERVAL_S)

    def admit(self, connection: Connection) -> bool:
        """Add a new connection. False if there is no place for it, not even a surplus one."""
        return self._admit_to(self._served, connection) or self._admit_to(self._surplus, connection)

    def _admit_to(self, pool: "ConnectionPool", connection: Connection) -> bool:
        if not pool.has_room(connection):
            if (found := pool.find_sheddable(connection)) is None:
                return False
            shed, phase = found
            self._metrics.connections.count_shed(phase.label)
            self.remove(shed)
            shed.shed()
        pool.put(connection, Phase.HEADERS)
        self._update_gauge()
        return True

    def is_surplus(self, connection: Connection) -> bool:
        """Return whether a connection is still surplus. It is served as soon as there is room."""
        if connection not in self._surplus:
            return False
        if self._served.has_room(connection):
            self._surplus.remove(connection)
            self._served.put(connection, Phase.HEADERS)
            return False
        return True

    def note(self, connection: Connection, phase: Phase) -> None:
        """Note that a connection entered a phase or made progress in it."""
        for pool in (self._served, self._surplus):
            if connection in pool:
                pool.put(connection, phase)

    def remove(self, connection: Connection) -> None:
        self._served.remove(connection)
        self._surplus.remove(connection)
        self._update_gauge()

    def _update_gauge(self) -> None:
        self._metrics.connections.set_open(self._port, len(self._served) + len(self._surplus))


class ConnectionPool:
    """At most `max_connections`, and of one client at most its share."""

    def __init__(self, max_connections: int, max_client_share: float) -> None:
        self._max_connections = max_connections
        self._max_client_connections = ceil(max_connections * max_client_share)
        self._clients: dict[str | None, ClientConnections] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, connection: Connection) -> bool:
        client = self._clients.get(connection.client_key)
        return client is not None and connection in client.phases

    def has_room(self, connection: Connection) -> bool:
        return self._count < self._max_connections and not self._has_all_of_its_share(connection)

    def _has_all_of_its_share(self, connection: Connection) -> bool:
        held = self._clients.get(connection.client_key, ())
        return connection.client_key is not None and len(held) >= self._max_client_connections

    def find_sheddable(self, connection: Connection) -> tuple[Connection, Phase] | None:
        """Return the connection that gives way to this new one: of its own client, if that has all of its share, else
        of the client that has the most."""
        if self._has_all_of_its_share(connection):
            return self._clients[connection.client_key].find_sheddable()
        by_size = sorted(self._clients.values(), key=len, reverse=True)
        return next((found for client in by_size if (found := client.find_sheddable())), None)

    def put(self, connection: Connection, phase: Phase) -> None:
        client = self._clients.setdefault(connection.client_key, ClientConnections())
        self._count += connection not in client.phases
        client.put(connection, phase)

    def remove(self, connection: Connection) -> None:
        client = self._clients.get(connection.client_key)
        if client is None or connection not in client.phases:
            return
        client.remove(connection)
        self._count -= 1
        if not client:
            del self._clients[connection.client_key]
