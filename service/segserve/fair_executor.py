"""A thread pool whose queue is fair: clients take turns, however much work each of them has handed in."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any, NamedTuple, ParamSpec, TypeVar

from segserve.current_client import current_client
from segserve.fair_queue import FairQueue

P = ParamSpec("P")
T = TypeVar("T")


class Work(NamedTuple):
    """A call to make. A closure in its place would stay in the traceback of an error, with all that it was given."""

    future: Future[Any]
    context: Context
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


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
        work = Work(future, copy_context(), fn, args, kwargs)
        with self._turns_lock:
            self._turns.put(current_client.get(), work)
        # One call for each piece of work: whoever runs takes the piece whose turn it is.
        super().submit(self._run_next)
        return future

    def _run_next(self) -> None:
        with self._turns_lock:
            future, context, function, args, kwargs = self._turns.pop()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = context.run(function, *args, **kwargs)
        except BaseException as error:
            future.set_exception(error)
            # The error refers to this frame, which would refer to the error, and to what the work was given.
            del future, function, args, kwargs
        else:
            future.set_result(result)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads. cancel_futures: work that has not begun is cancelled."""
        if cancel_futures:
            with self._turns_lock:
                for work in self._turns:
                    work.future.cancel()
        super().shutdown(wait)
