"""How many clicks are taken at once: as many as are answered soon."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from segserve.errors import Busy
from segserve.metrics import Metrics

MIN_SLOTS_PER_THREAD, MAX_SLOTS_PER_THREAD = 2, 8  # places per worker
DECREASE_FACTOR, INCREASE_SLOTS = (
    0.9,
    0.05,
)  # what an answer that took too long, or not, does to the number of places


class ClickLimit:
    """Beyond its places a request is refused at once rather than answered late.

    There are MOST of them while answers take no longer than `target_s`, waiting included, so that a burst is
    taken in. Under overload they shrink as TCP's window does, by a share for each answer that took longer, and
    come back one by one (additive increase, multiplicative decrease).
    """

    def __init__(self, workers: int, target_s: float, metrics: Metrics) -> None:
        self._workers, self._target_s, self._metrics = workers, target_s, metrics
        self._places, self._taken = float(MAX_SLOTS_PER_THREAD * workers), 0

    def refusal(self) -> Busy | None:
        """What a click would get now for which there is no place, counted; None where there is."""
        if self._taken < int(self._places):
            return None
        self._metrics.rejected("decode_queue")
        return Busy("Too many clicks at once.", remedy="Try again in a moment.", retry_after_s=1)

    @contextmanager
    def take(self, prompts: int) -> Iterator[None]:
        """A place for a request of so many prompts. Raises Busy."""
        if (refusal := self.refusal()) is not None:
            raise refusal
        self._taken += 1
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._taken -= 1
            self._took((time.perf_counter() - begun) / max(1.0, prompts / self._workers))

    def _took(self, seconds: float) -> None:
        if seconds > self._target_s:
            self._places = max(float(MIN_SLOTS_PER_THREAD * self._workers), self._places * DECREASE_FACTOR)
        else:
            self._places = min(float(MAX_SLOTS_PER_THREAD * self._workers), self._places + INCREASE_SLOTS)
