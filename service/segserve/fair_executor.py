"""A thread pool whose queue is fair: clients take turns, however much work each of them has handed in."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from segserve.current_client import current_client
from segserve.fair_queue import FairQueue

P = ParamSpec("P")
T = TypeVar("T")

Work = tuple[Future[Any], Callable[[], Any]]


class FairExecutor(Executor):
    """`FairExecutor` runs work in threads, first in, first out for each client, one piece of each client in turn.

    The client is `current_client` where work is handed in. So a client with one piece of work waits for the pieces that
    run already, and for one piece of each other client, not for all that they have queued.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._lock = threading.Lock()
        self._queue: FairQueue[Work] = FairQueue()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            self._queue.put(current_client.get(), (future, lambda: fn(*args, **kwargs)))
        # One call for each piece of work: whoever runs takes the piece whose turn it is.
        self._threads.submit(self._run_next)
        return future

    def _run_next(self) -> None:
        with self._lock:
            future, work = self._queue.pop()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads. cancel_futures: work that has not begun is cancelled."""
        if cancel_futures:
            with self._lock:
                for future, _ in self._queue:
                    future.cancel()
        self._threads.shutdown(wait)
