"""A progress bar on the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

OnProgress = Callable[[int, int | None], None]  # (done, total); total is None while nobody knows it


@contextmanager
def show_progress(label: str, total: int | None, *, in_bytes: bool = False) -> Iterator[OnProgress]:
    """Show a bar while the block runs. Yields the function that moves it.

    in_bytes: the counts are bytes.
    """
    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done, total: progress.update(task, completed=done, total=total)
