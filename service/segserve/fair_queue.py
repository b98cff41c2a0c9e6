"""`FairQueue`: what clients wait for. Tenants take turns, and the clients of a tenant do, however much each has."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from segserve.current_client import Client

T = TypeVar("T")


class FairQueue(Generic[T]):
    """`FairQueue` gives one item of each tenant in turn, and among those of a tenant one of each client (`Client`) in
    turn. The items of one client are first in, first out.

    So a client with one item waits for one item of each other tenant and of each other client of its own, not for all
    that they have queued. A tenant that comes while others wait is first, as new flows are in FQ-CoDel (RFC 8290): it
    waits for nothing of theirs. It is new again only after its turn among the others has come, so that it cannot keep
    them waiting by coming and going.
    """

    def __init__(self) -> None:
        # Only tenants and clients with items. The first client's turn is next.
        self._tenants: dict[str, OrderedDict[Client, deque[T]]] = {}
        # Tenants with items that have had no turn, and the others by turn. The others may have no items any more.
        self._new: OrderedDict[str, None] = OrderedDict()
        self._others: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(items) for clients in self._tenants.values() for items in clients.values())

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def __iter__(self) -> Iterator[T]:
        for _, item in self._by_turn():
            yield item

    def count(self, client: Client) -> int:
        """Return how many items of a client wait."""
        clients = self._tenants.get(client.tenant)
        return 0 if clients is None else len(clients.get(client, ()))

    def count_tenant(self, tenant: str) -> int:
        """Return how many items of a tenant wait."""
        return sum(len(items) for items in self._tenants.get(tenant, {}).values())

    def put(self, client: Client, item: T) -> None:
        clients = self._tenants.get(client.tenant)
        if clients is None:
            clients = self._tenants[client.tenant] = OrderedDict()
            if client.tenant not in self._others:
                self._new[client.tenant] = None
        clients.setdefault(client, deque()).append(item)

    def peek(self) -> tuple[Client, T]:
        """Return the client whose turn is next, and its item. Raises KeyError where there is none."""
        client, items = next(iter(self._tenants[self._next_tenant()].items()))
        return client, items[0]

    def pop(self, tenant: str | None = None) -> T:
        """Remove and return the item whose turn is next, of a tenant or of all. Raises KeyError where there is none."""
        clients = self._tenants[self._next_tenant() if tenant is None else tenant]
        client, items = next(iter(clients.items()))
        item = items[0]
        self._take(client, item)
        return item

    def tenants(self) -> Iterator[str]:
        """Yield the tenants whose items wait, by turn."""
        yield from self._new
        yield from (tenant for tenant in self._others if tenant in self._tenants)

    def pop_where(self, matches: Callable[[T], bool]) -> T | None:
        """Remove and return the first item by turn that matches; None where none does."""
        for client, item in self._by_turn():
            if matches(item):
                self._take(client, item)
                return item
        return None

    def remove(self, client: Client, item: T) -> None:
        """Remove an item of a client, which keeps its turn. Raises ValueError or KeyError where it does not wait."""
        clients = self._tenants[client.tenant]
        items = clients[client]
        items.remove(item)
        if not items:
            del clients[client]
        if not clients:
            del self._tenants[client.tenant]
            self._new.pop(client.tenant, None)
        self._forget_turns()

    def _next_tenant(self) -> str:
        if not self._tenants:
            raise KeyError("nothing waits")
        if self._new:
            return next(iter(self._new))
        while (tenant := next(iter(self._others))) not in self._tenants:
            del self._others[tenant]
        return tenant

    def _by_turn(self) -> Iterator[tuple[Client, T]]:
        for tenant in self.tenants():
            for client, items in self._tenants[tenant].items():
                for item in items:
                    yield client, item

    def _take(self, client: Client, item: T) -> None:
        """Remove an item whose turn it is."""
        clients = self._tenants[client.tenant]
        items = clients.pop(client)
        items.remove(item)
        if items:
            clients[client] = items  # at the end
        if not clients:
            del self._tenants[client.tenant]
        self._new.pop(client.tenant, None)
        self._others.pop(client.tenant, None)
        self._others[client.tenant] = None
        self._forget_turns()

    def _forget_turns(self) -> None:
        """Forget who had a turn, once nothing waits; but not the last one, whose work may still run."""
        while not self._tenants and len(self._others) > 1:
            self._others.popitem(last=False)
