"""The number of clicks that are accepted adapts to how long earlier answers took."""

from contextlib import ExitStack

import pytest

from segserve.current_client import Client, current_client
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
    fake = Clock()
    monkeypatch.setattr(module, "time", fake)
    return fake


def count_slots(limit: ClickLimit) -> int:
    """Return how many clicks are accepted at the same time."""
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


@pytest.mark.parametrize("threads", [1, 4])
def test_the_limit_shrinks_while_answers_are_late_and_grows_back(clock: Clock, threads: int) -> None:
    limit = ClickLimit(threads, 0.03, Metrics())
    assert count_slots(limit) == MAX_SLOTS_PER_THREAD * threads
    answer(limit, clock, 0.01, times=50)
    assert count_slots(limit) == MAX_SLOTS_PER_THREAD * threads
    answer(limit, clock, 0.05, times=5)
    assert MIN_SLOTS_PER_THREAD * threads < count_slots(limit) < MAX_SLOTS_PER_THREAD * threads
    answer(limit, clock, 0.05, times=50)
    assert count_slots(limit) == MIN_SLOTS_PER_THREAD * threads
    answer(limit, clock, 0.01, times=2000)
    assert count_slots(limit) == MAX_SLOTS_PER_THREAD * threads


def test_an_answer_that_was_decoded_for_long_is_late_only_if_it_waited_longer(clock: Clock) -> None:
    """As clicks on a large model are: each takes longer than the target."""
    limit = ClickLimit(2, 0.03, Metrics())

    def decode(seconds: float, waiting: float) -> None:
        for _ in range(100):
            with limit.slot(1) as decoding:
                clock.now += seconds + waiting
                decoding.append(seconds)

    decode(0.2, waiting=0.3)
    assert count_slots(limit) == 2 * MAX_SLOTS_PER_THREAD
    decode(0.2, waiting=0.5)
    assert count_slots(limit) == 2 * MIN_SLOTS_PER_THREAD


def test_a_prompt_of_many_points_that_waits_for_nothing_is_in_time(clock: Clock) -> None:
    """It takes as long as many clicks, in one thread."""
    limit = ClickLimit(2, 0.03, Metrics())
    for _ in range(100):
        with limit.slot(8) as decoding:
            clock.now += 0.5
            decoding.append(0.5)
    assert count_slots(limit) == 2 * MAX_SLOTS_PER_THREAD


def test_many_prompts_may_take_many_times_as_long(clock: Clock) -> None:
    limit = ClickLimit(2, 0.03, Metrics())
    answer(limit, clock, 1.0, prompts=100, times=50)
    assert count_slots(limit) == 2 * MAX_SLOTS_PER_THREAD


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


def test_one_client_leaves_a_slot_for_each_thread(clock: Clock) -> None:
    """Also once the limit has shrunk."""
    limit = ClickLimit(4, 0.03, Metrics())
    for size in (MAX_SLOTS_PER_THREAD, MIN_SLOTS_PER_THREAD):
        token = current_client.set(Client("t", "busy"))
        held = count_slots(limit)
        assert held == 4 * size - 4
        with ExitStack() as stack:
            for _ in range(held):
                stack.enter_context(limit.slot(1))
            current_client.set(Client("t", "calm"))
            assert count_slots(limit) == 4
        current_client.reset(token)
        answer(limit, clock, 1.0, times=100)
