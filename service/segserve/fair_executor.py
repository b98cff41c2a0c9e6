"""A thread pool whose queue is fair: clients take turns, however much work each of them has handed in."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

from segserve.current_client import current_client
from segserve.fair_queue import FairQueue

P = ParamSpec("P")
T = TypeVar("T")

Work = tuple[Future[Any], Callable[[], Any]]


class FairExecutor(ThreadPoolExecutor):
    """`FairExecutor` runs work in threads, first in, first out for each client, one piece of each client in turn.

    The client is `current_client` where work is handed in. So a client with one piece of work waits for the pieces that
    run already, and for one piece of each other client, not for all that they have queued. Work runs in the context in
    which it was handed in: what it hands on, to another pool or a memory budget, is still that client's.

    initializer: called in each thread when it starts.
    """

    def __init__(self, threads: int, name: str, initializer: Callable[[], None] | None = None) -> None:
        super().__init__(threads, name, initializer=initializer)
        self._turns_lock = threading.Lock()
        self._turns: FairQueue[Work] = FairQueue()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        context = copy_context()
        with self._turns_lock:
            self._turns.put(current_client.get(), (future, lambda: context.run(fn, *args, **kwargs)))
        # One call for each piece of work: whoever runs takes the piece whose turn it is.
        super().submit(self._run_next)
        return future

    def _run_next(self) -> None:
        with self._turns_lock:
            future, work = self._turns.pop()
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
            with self._turns_lock:
                for future, _ in self._turns:
                    future.cancel()
        super().shutdown(wait)
