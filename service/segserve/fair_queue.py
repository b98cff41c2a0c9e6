"""`FairQueue`: what clients wait for. Clients take turns, however many items each of them has."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """`FairQueue` gives one item of each client in turn. The items of one client are first in, first out.

    So a client with one item waits for one item of each other client, not for all that they have queued. A client is
    an address as `current_client` has it; None is work without a request, which takes turns like a client.
    """

    def __init__(self) -> None:
        # Only clients with items. The first one's turn is next.
        self._items: OrderedDict[str | None, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(items) for items in self._items.values())

    def __bool__(self) -> bool:
        return bool(self._items)

    def __iter__(self) -> Iterator[T]:
        for items in self._items.values():
            yield from items

    def count(self, client: str | None) -> int:
        """Return how many items of a client wait."""
        return len(self._items.get(client, ()))

    def put(self, client: str | None, item: T) -> None:
        self._items.setdefault(client, deque()).append(item)

    def peek(self) -> T:
        """Return the item whose turn is next. Raises StopIteration where there is none."""
        return next(iter(self._items.values()))[0]

    def pop(self) -> T:
        """Remove and return the item whose turn is next. Raises KeyError where there is none."""
        client, items = self._items.popitem(last=False)
        item = items.popleft()
        if items:
            self._items[client] = items  # at the end
        return item

    def remove(self, client: str | None, item: T) -> None:
        """Remove an item of a client. Raises ValueError or KeyError where it does not wait."""
        items = self._items[client]
        items.remove(item)
        if not items:
            del self._items[client]
