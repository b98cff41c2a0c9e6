"""Progress of long work: a bar on a terminal, a line now and then where the output goes elsewhere."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from segserve.types import MB

OnProgress = Callable[[int, int | None], None]  # (done, total); total is None while nobody knows it

# In a log: often enough to see that something happens.
LINE_INTERVAL_S = 10.0


@contextmanager
def show_progress(label: str, total: int | None, *, in_bytes: bool = False) -> Iterator[OnProgress]:
    """Show on standard error how far the work is while the block runs. Yields the function that is told.

    in_bytes: the counts are bytes.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield ProgressLines(label, in_bytes=in_bytes)
        return
    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def count_progress(label: str, total: int) -> Iterator[Callable[[], None]]:
    """Show the same. Yields a function to call when one more of `total` is done."""
    with show_progress(label, total) as on_progress:
        count = itertools.count(1)
        yield lambda: on_progress(next(count), total)


class ProgressLines:
    """`ProgressLines` writes a line every LINE_INTERVAL_S, and none for work that ends sooner."""

    def __init__(self, label: str, *, in_bytes: bool) -> None:
        self._label, self._in_bytes = label, in_bytes
        self._start = self._last = time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last < LINE_INTERVAL_S:
            return
        self._last = now
        text = f"{self._label}: {self._format(done)}"
        if total is not None:
            text += f" of {self._format(total)}"
        text += f" after {now - self._start:.0f} s"
        if total is not None and 0 < done <= total:
            text += f", {(now - self._start) * (total - done) / done:.0f} s to go"
        typer.echo(text, err=True)

    def _format(self, count: int) -> str:
        return f"{count / MB:.0f} MB" if self._in_bytes else str(count)
