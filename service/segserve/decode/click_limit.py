"""Overload protection for clicks: an adaptive concurrency limit, as TCP's congestion window (AIMD)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import ceil

from segserve.concurrency_limit import ConcurrencyLimit
from segserve.current_client import current_client
from segserve.errors import Busy
from segserve.metrics import Metrics

# One click runs and one waits: with fewer a thread would idle between two clicks.
MIN_SLOTS_PER_THREAD = 2
# While answers are quick, this many clicks per thread may wait, so that a burst is accepted.
MAX_SLOTS_PER_THREAD = 7
# Multiplicative decrease: an answer that took too long multiplies the limit by this.
DECREASE_FACTOR = 0.9
# Additive increase: an answer in time adds this many slots.
INCREASE_SLOTS = 0.05
# An answer is late when it took more than so many times as long as its decoding: it waited for the rest. The slots of a
# thread allow MAX_SLOTS_PER_THREAD times.
MAX_SLOWDOWN = 3.0
# A request holds one slot for each so many clicks, up to the number of threads.
CLICKS_PER_SLOT = 16


class ClickLimit:
    """`ClickLimit` refuses a click at once when its answer would come late.

    The limit is MAX_SLOTS_PER_THREAD * threads while answers take no longer than `target_s`, waiting included, or no
    longer than MAX_SLOWDOWN times their decoding: a click on a large model takes longer than any target that suits a
    small one. Under overload it shrinks by DECREASE_FACTOR for each late answer and grows back by INCREASE_SLOTS for
    each answer in time (additive increase, multiplicative decrease).

    One client may hold all slots but one for each thread, so that a click from elsewhere finds one. When that click has
    its turn among the waiting ones is for the threads to say (`FairExecutor`).

    threads: how many clicks are decoded at the same time.
    target_s: seconds a click may take before the limit shrinks.
    """

    def __init__(self, threads: int, target_s: float, metrics: Metrics) -> None:
        self._threads, self._target_s = threads, target_s
        self._size = float(MAX_SLOTS_PER_THREAD * threads)
        self._limit = ConcurrencyLimit(
            int(self._size),
            "Too many clicks at once.",
            remedy="Try again in a moment.",
            retry_after_s=1,
            on_refused=partial(metrics.requests.count_rejection, "decode_queue"),
            on_client_refused=partial(metrics.requests.count_rejection, "client_decode_queue"),
        )
        self._resize(self._size)

    def refusal(self) -> Busy | None:
        """Return the error for a click that arrives now, and count it. None if there is a slot for it."""
        return self._limit.refusal(client=current_client.get())

    @contextmanager
    def slot(self, clicks: float) -> Iterator[list[float]]:
        """Hold slots for a request, and adapt the limit to the time it took.

        Yields a list, to which threads append the seconds for which they decoded.

        clicks: how many clicks take as long to decode. A request that takes as long as many keeps all threads busy, and
        holds a slot for each.

        Raises Busy.
        """
        slots = min(self._threads, ceil(clicks / CLICKS_PER_SLOT))
        with self._limit.slot(slots, current_client.get()):
            start, decoding = time.perf_counter(), list[float]()
            try:
                yield decoding
            finally:
                # A request of many clicks may take as many times longer as it has clicks for each thread.
                target_s = self._target_s * max(1.0, clicks / self._threads)
                # Prompts are decoded side by side, each in one thread.
                decoding_s = max(sum(decoding) / self._threads, max(decoding, default=0.0))
                self._adapt(time.perf_counter() - start, max(target_s, MAX_SLOWDOWN * decoding_s))

    def _adapt(self, seconds: float, max_s: float) -> None:
        if seconds > max_s:
            self._resize(max(float(MIN_SLOTS_PER_THREAD * self._threads), self._size * DECREASE_FACTOR))
        else:
            self._resize(min(float(MAX_SLOTS_PER_THREAD * self._threads), self._size + INCREASE_SLOTS))

    def _resize(self, size: float) -> None:
        self._size = size
        self._limit.max_slots = int(size)
        self._limit.max_client_slots = int(size) - self._threads
