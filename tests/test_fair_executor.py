"""Clients take turns in the threads, however much work each of them has handed in."""

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

import pytest

from segserve.current_client import Client, current_client
from segserve.fair_executor import FairExecutor


def submit(
    executor: FairExecutor, client: str | None, work: Callable[[], object], tenant: str = "t"
) -> Future[object]:
    token = current_client.set(Client(tenant, client))
    try:
        return executor.submit(work)
    finally:
        current_client.reset(token)


def test_clients_take_turns_and_each_is_first_in_first_out() -> None:
    executor, order, release = FairExecutor(1, "test"), list[str](), threading.Event()
    running = submit(executor, "busy", release.wait)
    waiting = [submit(executor, "busy", lambda i=i: order.append(f"busy {i}")) for i in range(4)]
    waiting += [submit(executor, "calm", lambda: order.append("calm"))]
    waiting += [submit(executor, None, lambda: order.append("job"))]
    release.set()
    for future in [running, *waiting]:
        future.result(timeout=60)
    assert order == ["busy 0", "calm", "job", "busy 1", "busy 2", "busy 3"]
    executor.shutdown()


def test_results_and_errors_reach_the_caller() -> None:
    executor = FairExecutor(2, "test")
    assert executor.submit(pow, 2, exp=5).result(timeout=60) == 32
    with pytest.raises(ZeroDivisionError):
        executor.submit(lambda: 1 / 0).result(timeout=60)
    executor.shutdown()


def test_work_is_for_the_client_that_handed_it_in() -> None:
    executor = FairExecutor(1, "test")
    assert submit(executor, "calm", current_client.get).result(timeout=60) == Client("t", "calm")
    assert submit(executor, None, current_client.get).result(timeout=60) == Client("t")
    executor.shutdown()


def test_an_error_does_not_keep_what_the_work_was_given() -> None:
    class Given:
        pass

    def fail(given: Given) -> None:
        raise ZeroDivisionError

    executor, given = FairExecutor(1, "test"), Given()
    is_there = weakref.ref(given)
    gc.disable()
    try:
        future = executor.submit(fail, given)
        with pytest.raises(ZeroDivisionError):
            future.result(timeout=60)
        executor.shutdown()
        del given, future
        assert is_there() is None
    finally:
        gc.enable()


def test_cancelled_work_is_left_out_and_shutdown_cancels_what_waits() -> None:
    executor, ran, release = FairExecutor(1, "test"), list[str](), threading.Event()
    executor.submit(release.wait)
    cancelled = executor.submit(ran.append, "cancelled")
    kept = executor.submit(ran.append, "kept")
    assert cancelled.cancel()
    release.set()
    kept.result(timeout=60)
    assert ran == ["kept"]

    release.clear()
    executor.submit(release.wait)
    dropped = executor.submit(ran.append, "dropped")
    executor.shutdown(wait=False, cancel_futures=True)
    release.set()
    with pytest.raises(CancelledError):
        dropped.result(timeout=60)
    assert ran == ["kept"]


def test_a_tenant_of_which_nothing_runs_does_not_wait_for_anothers_work_to_end() -> None:
    executor, release, order = FairExecutor(2, "test", spare_threads=1), threading.Event(), list[str]()
    running = [submit(executor, "x", release.wait, "flood") for _ in range(2)]
    running.append(submit(executor, "x", lambda: order.append("flood"), "flood"))
    submit(executor, "y", lambda: order.append("calm"), "calm").result(timeout=60)
    assert order == ["calm"], "in the spare thread"
    release.set()
    for future in running:
        future.result(timeout=60)
    assert order == ["calm", "flood"]
    executor.shutdown()


def test_shutdown_waits_for_all_work_that_was_handed_in() -> None:
    executor, order = FairExecutor(1, "test"), list[int]()
    for number in range(50):
        submit(executor, "x", lambda number=number: order.append(number))  # type: ignore[misc]
    executor.shutdown()
    assert order == list(range(50))
    with pytest.raises(RuntimeError):
        executor.submit(print)
