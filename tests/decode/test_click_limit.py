"""Who is taken and who is refused, by how long the answers before took."""

from contextlib import ExitStack

import pytest

from segserve.decode import click_limit as module
from segserve.decode.click_limit import MAX_SLOTS_PER_THREAD, MIN_SLOTS_PER_THREAD, ClickLimit
from segserve.errors import Busy
from segserve.metrics import Metrics


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def room(limit: ClickLimit) -> int:
    """How many are taken at once."""
    with ExitStack() as stack:
        for count in range(1000):
            try:
                stack.enter_context(limit.slot(1))
            except Busy:
                return count
    return 1000


def answer(limit: ClickLimit, clock: Clock, seconds: float, *, prompts: int = 1, times: int = 1) -> None:
    for _ in range(times):
        with limit.slot(prompts):
            clock.now += seconds


@pytest.mark.parametrize("workers", [1, 4])
def test_the_limit_shrinks_while_answers_take_long_and_grows_back(clock: Clock, workers: int) -> None:
    limit = ClickLimit(workers, 0.03, Metrics())
    assert room(limit) == MAX_SLOTS_PER_THREAD * workers
    answer(limit, clock, 0.01, times=50)
    assert room(limit) == MAX_SLOTS_PER_THREAD * workers
    answer(limit, clock, 0.05, times=5)
    assert MIN_SLOTS_PER_THREAD * workers < room(limit) < MAX_SLOTS_PER_THREAD * workers
    answer(limit, clock, 0.05, times=50)
    assert room(limit) == MIN_SLOTS_PER_THREAD * workers
    answer(limit, clock, 0.01, times=2000)
    assert room(limit) == MAX_SLOTS_PER_THREAD * workers


def test_many_prompts_may_take_many_times_as_long(clock: Clock) -> None:
    limit = ClickLimit(2, 0.03, Metrics())
    answer(limit, clock, 1.0, prompts=100, times=50)
    assert room(limit) == 2 * MAX_SLOTS_PER_THREAD


def test_a_refusal_says_when_to_try_again_and_is_counted() -> None:
    metrics = Metrics()
    limit = ClickLimit(1, 1.0, metrics)
    with ExitStack() as stack:
        for _ in range(MAX_SLOTS_PER_THREAD):
            stack.enter_context(limit.slot(1))
        refusal = limit.refusal()
    assert refusal is not None
    assert refusal.retry_after_s > 0
    assert 'segserve_rejections_total{reason="decode_queue"} 1.0' in metrics.expose().decode()
