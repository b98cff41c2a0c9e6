"""Admission control: a limit on how much work is accepted at the same time. Work beyond it is refused with Busy."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from segserve.current_client import Client
from segserve.errors import Busy

# A tenant holds at most so many times the slots that it leaves free, once another tenant was seen.
TENANT_FACTOR = 7

Holder = TypeVar("Holder", bound=Hashable)


def fits_tenant_share(held: int, wanted: int, free: int) -> bool:
    """Return whether a tenant that holds slots may take more of the free ones.

    A tenant that holds none always may. Others hold at most TENANT_FACTOR times what they leave free: alone seven
    eighths of all, two tenants seven fifteenths each. So however many tenants take what they can, some slots are free
    for one that comes later (the dynamic thresholds of Choudhury and Hahne, 1998).
    """
    return not held or held + wanted <= TENANT_FACTOR * (free - wanted)


def give_back(held: Counter[Holder], holder: Holder, slots: int) -> None:
    held[holder] -= slots
    if held[holder] <= 0:
        del held[holder]


class ConcurrencyLimit:
    """`ConcurrencyLimit` counts slots: every piece of accepted work holds one, while it waits and while it runs.

    It never lets a caller wait. For one thread: the event loop's.

    Work may name the client that it is for. No client holds more than `max_client_slots`, so that one alone cannot keep
    the others out. A client that holds none may always take what is free. As soon as two tenants were seen, the same
    holds for tenants, however many clients they have: see `fits_tenant_share`. Work without a request has no share.

    max_slots: how many slots there are. May be changed at any time; slots already held stay held.
    message, remedy, retry_after_s: of the Busy error that a caller gets when no slot is free.
    max_client_slots: how many of them one client may hold; None is all. May be changed at any time.
    on_refused: called once for each refusal, to count it in a metric.
    on_client_refused: the same, for refusals because of the client's share.
    """

    def __init__(
        self,
        max_slots: int,
        message: str,
        *,
        remedy: str = "Try again soon.",
        retry_after_s: int = 5,
        max_client_slots: int | None = None,
        on_refused: Callable[[], None] = lambda: None,
        on_client_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self.max_slots, self.max_client_slots = max_slots, max_client_slots
        self._message, self._remedy, self._retry_after_s = message, remedy, retry_after_s
        self._on_refused, self._on_client_refused = on_refused, on_client_refused
        self._held = 0
        self._held_by_client: Counter[Client] = Counter()
        self._held_by_tenant: Counter[str] = Counter()
        self._tenants: set[str] = set()  # that were seen

    def refusal(self, slots: int = 1, client: Client | None = None) -> Busy | None:
        """Return the error for a caller who needs slots now, and count it. None if so many are free.

        client: whom the work is for; None is nobody in particular, who has no share.
        """
        if self._held + slots > self.max_slots:
            self._on_refused()
            return Busy(self._message, remedy=self._remedy, retry_after_s=self._retry_after_s)
        if client is None or client.source is None:
            return None
        held = self._held_by_client[client]
        if held and self.max_client_slots is not None and held + slots > self.max_client_slots:
            self._on_client_refused()
            return Busy(
                f"{self._message[:-1]} from one address.",
                remedy="Wait for earlier answers, or ask the operator to raise SEGSERVE_MAX_CLIENT_SHARE.",
                retry_after_s=self._retry_after_s,
            )
        self._tenants.add(client.tenant)
        free = self.max_slots - self._held
        if len(self._tenants) > 1 and not fits_tenant_share(self._held_by_tenant[client.tenant], slots, free):
            self._on_client_refused()
            return Busy(
                f"{self._message[:-1]} of one tenant.",
                remedy="Wait for earlier answers.",
                retry_after_s=self._retry_after_s,
            )
        return None

    def acquire(self, slots: int = 1, client: Client | None = None) -> None:
        """Take slots. Raises Busy if not so many are free."""
        if (refusal := self.refusal(slots, client)) is not None:
            raise refusal
        self._held += slots
        if client is not None:
            self._held_by_client[client] += slots
            self._held_by_tenant[client.tenant] += slots

    def release(self, slots: int = 1, client: Client | None = None) -> None:
        """Give back slots that `acquire` took for this client."""
        self._held -= slots
        if client is not None:
            give_back(self._held_by_client, client, slots)
            give_back(self._held_by_tenant, client.tenant, slots)

    @contextmanager
    def slot(self, slots: int = 1, client: Client | None = None) -> Iterator[None]:
        """Hold slots while the block runs. Raises Busy if not so many are free."""
        self.acquire(slots, client)
        try:
            yield
        finally:
            self.release(slots, client)
