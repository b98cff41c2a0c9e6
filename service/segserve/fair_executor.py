"""A thread pool whose queue is fair: tenants and clients take turns, however much work each of them has handed in."""

import threading
from collections import Counter
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

    tenant: str
    future: Future[Any]
    context: Context
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class FairExecutor(ThreadPoolExecutor):
    """`FairExecutor` runs work in threads: tenants take turns, and the clients of one tenant, as `FairQueue` has it. A
    tenant of which no piece runs is before the others.

    The client is `current_client` where work is handed in. So a client with one piece of work waits for the pieces that
    run already, and for one piece of each other client, not for all that they have queued. Work runs in the context in
    which it was handed in: what it hands on, to another pool or a memory budget, is still that client's.

    threads: pieces of work that run at the same time.
    spare_threads: more of them, for tenants of which no piece runs: while another tenant keeps all threads busy, the
        system shares the cores between the two, and the second does not wait for the first one's pieces to end.
    initializer: called in each thread when it starts.
    """

    def __init__(
        self,
        threads: int,
        name: str,
        initializer: Callable[[], None] | None = None,
        *,
        spare_threads: int = 0,
    ) -> None:
        super().__init__(threads + spare_threads, name, initializer=initializer)
        self._usual_count, self._max_count = threads, threads + spare_threads
        self._turns_lock = threading.Lock()
        self._turns: FairQueue[Work] = FairQueue()
        self._running: Counter[str] = Counter()  # pieces by tenant
        self._running_count = 0
        self._is_shut_down = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        client = current_client.get()
        with self._turns_lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._turns.put(client, Work(client.tenant, future, copy_context(), fn, args, kwargs))
            if taken := self._take_next():
                super().submit(self._run, taken)
        return future

    def _take_next(self) -> list[Work]:
        """Take the next piece, if one may begin: of a tenant of which none runs, else of the one whose turn it is.

        The list has one piece or none.
        """
        tenant = next((tenant for tenant in self._turns.tenants() if not self._running[tenant]), None)
        if not self._turns or self._running_count >= (
            self._usual_count if tenant is None else self._max_count
        ):
            return []
        work = self._turns.pop(tenant)
        self._running[work.tenant] += 1
        self._running_count += 1
        return [work]

    def _run(self, taken: list[Work]) -> None:
        """Run a piece of work, then those whose turn it is, until none may begin."""
        while taken:
            tenant = taken[0].tenant
            run_work(taken)
            with self._turns_lock:
                self._running_count -= 1
                self._running[tenant] -= 1
                if not self._running[tenant]:
                    del self._running[tenant]
                taken.extend(self._take_next())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads, after all work is done. cancel_futures: work that has not begun is cancelled."""
        with self._turns_lock:
            self._is_shut_down = True
            if cancel_futures:
                for work in self._turns:
                    work.future.cancel()
        super().shutdown(wait)


def run_work(taken: list[Work]) -> None:
    """Run the only piece of work of a list, which is empty from then on.

    An error refers to this frame, and this to its callers' frames: none of them may keep what the work was given.
    """
    _, future, context, function, args, kwargs = taken.pop()
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
