"""`MemoryBudget`: a weighted, fair semaphore over bytes of memory, for work whose peak is known before it begins."""

import asyncio
import ctypes
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager, suppress
from typing import ParamSpec, Protocol, TypeVar

from segserve.errors import Busy, TooLarge
from segserve.fair_semaphore import FairSemaphore

P = ParamSpec("P")
T = TypeVar("T")

# The part of the budget that only small work may take, so that it never waits behind large work.
SMALL_SHARE = 1 / 4
# Small work takes at most this part of the small share, so that four pieces run at the same time.
MAX_SMALL_PART = 1 / 4


# After work of this size the process gives what was freed back to the system.
MIN_TRIMMED_BYTES = 100_000_000


def return_freed_memory() -> None:
    """Give freed memory back to the system, which glibc does not do by itself. Takes some milliseconds."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


class Release(Protocol):
    """`Release` gives held bytes back, but for `kept_bytes`."""

    def __call__(self, kept_bytes: int = 0) -> None: ...


class MemoryBudget:
    """`MemoryBudget` bounds the memory that pieces of work take together. For one thread: the event loop's. Others
    use `acquire_from_thread`.

    Large and small work have shares of their own: a large piece waits only for large pieces, a small one only for small
    ones. In each, clients take turns.

    total_bytes: of all work together. One piece of work may take the large share of it, `max_bytes`.
    setting: the name of the setting that raises `total_bytes`, for messages.
    max_wait_s: a caller that waits longer gets Busy.
    on_refused: called once for each caller that gets Busy, to count it in a metric.
    """

    def __init__(
        self,
        total_bytes: int,
        setting: str,
        *,
        max_wait_s: float,
        on_refused: Callable[[], None] | None = None,
    ) -> None:
        small_bytes = int(total_bytes * SMALL_SHARE)
        self._small, self._large = FairSemaphore(small_bytes), FairSemaphore(total_bytes - small_bytes)
        self._max_small_bytes = int(small_bytes * MAX_SMALL_PART)
        self._setting, self._max_wait_s, self._on_refused = setting, max_wait_s, on_refused
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        """Remember the running event loop, for `acquire_from_thread`."""
        self._loop = asyncio.get_running_loop()

    @property
    def max_bytes(self) -> int:
        """Return the most that one piece of work may take."""
        return self._large.total

    @property
    def held_bytes(self) -> int:
        """Return what is held now."""
        return sum(lane.total - lane.free for lane in (self._small, self._large))

    def check(self, needed_bytes: int, field: str = "file") -> None:
        """Raise TooLarge where work needs more than `max_bytes`. field: the part of the request at fault."""
        if needed_bytes > self.max_bytes:
            raise TooLarge(
                f"It needs {_to_mb(needed_bytes)} MB of memory to be read; {_to_mb(self.max_bytes)} MB may be taken"
                " at once.",
                field=field,
                remedy="Scale it down, cut it into parts or save it without interlacing and with fewer bits;"
                f" or ask the operator to raise {self._setting}.",
            )

    def _lane(self, needed_bytes: int) -> FairSemaphore:
        return self._small if needed_bytes <= self._max_small_bytes else self._large

    async def acquire(self, needed_bytes: int, field: str = "file") -> Release:
        """Take the bytes and return a function that gives them back, all or some of them.

        Raises TooLarge where they are more than `max_bytes`, Busy after `max_wait_s`.
        """
        self.check(needed_bytes, field)
        lane, held_bytes = self._lane(needed_bytes), needed_bytes
        try:
            await lane.acquire(needed_bytes, self._max_wait_s)
        except TimeoutError:
            if self._on_refused is not None:
                self._on_refused()
            raise Busy(
                "Too many images and files are read at the same time.",
                remedy="Try again soon.",
                retry_after_s=10,
            ) from None

        def release(kept_bytes: int = 0) -> None:
            nonlocal held_bytes
            lane.release(held_bytes - kept_bytes)
            held_bytes = kept_bytes

        return release

    def acquire_from_thread(self, needed_bytes: int, field: str = "file") -> "Future[Release]":
        """Do what `acquire` does, in another thread than the event loop's, once `attach` was called in that.

        The future has a function that gives the bytes back, for any thread. A cancelled future takes nothing.
        """
        loop = self._loop
        assert loop is not None, "attach() was not called"
        granted: Future[Release] = Future()

        async def acquire() -> None:
            try:
                release = await self.acquire(needed_bytes, field)
            except asyncio.CancelledError:  # the loop is about to end, or `granted` was cancelled
                granted.cancel()
            except Exception as error:
                if granted.set_running_or_notify_cancel():
                    granted.set_exception(error)
            else:
                if granted.set_running_or_notify_cancel():
                    granted.set_result(release_in_loop(loop, release))
                else:
                    release()

        acquiring = asyncio.run_coroutine_threadsafe(acquire(), loop)
        granted.add_done_callback(lambda _: acquiring.cancel())
        return granted

    @asynccontextmanager
    async def hold(self, needed_bytes: int, field: str = "file") -> AsyncIterator[None]:
        """Hold the bytes while the block runs. Raises as `acquire` does."""
        release = await self.acquire(needed_bytes, field)
        try:
            yield
        finally:
            release()

    async def run(
        self, needed_bytes: int, executor: Executor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(*args, **kwargs)` in a thread of `executor` and hold the bytes until the thread has ended.

        A caller that is cancelled does not wait for that, but the bytes stay held. Raises as `acquire` does.
        """
        release = await self.acquire(needed_bytes)
        loop = asyncio.get_running_loop()

        def run_and_trim() -> T:
            try:
                return work(*args, **kwargs)
            finally:
                if needed_bytes >= MIN_TRIMMED_BYTES:
                    return_freed_memory()

        try:
            running = executor.submit(run_and_trim)
        except BaseException:
            release()
            raise
        running.add_done_callback(lambda _: call_in_loop(loop, release))
        return await asyncio.wrap_future(running)


def release_in_loop(loop: asyncio.AbstractEventLoop, release: Release) -> Release:
    """Return `release` for any thread."""

    def release_from_thread(kept_bytes: int = 0) -> None:
        call_in_loop(loop, lambda: release(kept_bytes))

    return release_from_thread


def call_in_loop(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Have the loop call the function soon, from any thread. Does nothing where the loop is closed already."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


def _to_mb(count: int) -> str:
    return f"{count / 1e6:.0f}"
