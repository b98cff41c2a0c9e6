"""Admission control: a limit on how much work is accepted at the same time. Work beyond it is refused with Busy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from segserve.errors import Busy


class ConcurrencyLimit:
    """`ConcurrencyLimit` counts slots: every piece of accepted work holds one, while it waits and while it runs.

    It never lets a caller wait. For one thread: the event loop's.

    max_slots: how many slots there are. May be changed at any time; slots already held stay held.
    message, remedy, retry_after_s: of the Busy error that a caller gets when no slot is free.
    on_refused: called once for each refusal, to count it in a metric.
    """

    def __init__(
        self,
        max_slots: int,
        message: str,
        *,
        remedy: str = "Try again soon.",
        retry_after_s: int = 5,
        on_refused: Callable[[], None] | None = None,
    ) -> None:
        self.max_slots = max_slots
        self._message, self._remedy, self._retry_after_s = message, remedy, retry_after_s
        self._on_refused = on_refused
        self._held = 0

    def refusal(self, slots: int = 1) -> Busy | None:
        """Return the error for a caller who needs slots now, and count it. None if so many are free."""
        if self._held + slots <= self.max_slots:
            return None
        if self._on_refused is not None:
            self._on_refused()
        return Busy(self._message, remedy=self._remedy, retry_after_s=self._retry_after_s)

    def acquire(self, slots: int = 1) -> None:
        """Take slots. Raises Busy if not so many are free."""
        if (refusal := self.refusal(slots)) is not None:
            raise refusal
        self._held += slots

    def release(self, slots: int = 1) -> None:
        """Give back slots that `acquire` took."""
        self._held -= slots

    @contextmanager
    def slot(self, slots: int = 1) -> Iterator[None]:
        """Hold slots while the block runs. Raises Busy if not so many are free."""
        self.acquire(slots)
        try:
            yield
        finally:
            self.release(slots)
