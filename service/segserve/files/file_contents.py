"""Choose one of the series and points in time that a file holds, and say which others there are.

Readers of all formats use it: DICOM, 4-D volumes, zips of clips, files with several scenes.
"""

from collections.abc import Sequence
from dataclasses import replace

from segserve.errors import BadInput
from segserve.types import FileContent, FileOptions, LeftOut, LeftOutFile

# What a record lists at most. A message of the sandbox holds it all, each character as six.
MAX_LISTED_CONTENTS = 100
MAX_LISTED_LEFT_OUT = 20
MAX_NOTES = 4
MAX_NAME_CHARS = 100
MAX_NOTE_CHARS = 200
# In an error message.
MAX_NAMED_CONTENTS = 8


def choose_series(names: Sequence[str], series: str | None, default: int) -> int:
    """Return the index of the series that `FileOptions.series` asks for, by name or by number from 0.

    names: of the file's series. default: the index if it asks for none.
    Raises BadInput.
    """
    if series is None:
        return default
    if series in names:
        return names.index(series)
    if series.isdecimal() and len(series) <= 9 and int(series) < len(names):
        return int(series)
    raise BadInput(
        f"The file has no series {series[:MAX_NAME_CHARS]!r}.",
        field="series",
        remedy=f"It has {name_some(names)}." if len(names) > 1 else "It has one: leave 'series' out.",
    )


def choose_time(times: int, time: int | None) -> int:
    """Return the point in time that `FileOptions.time` asks for. times: how many there are. Raises BadInput."""
    if time is None or 0 <= time < times:
        return time or 0
    raise BadInput(
        f"There is no point in time {time}.",
        field="time",
        remedy=f"Send one from 0 to {times - 1}." if times > 1 else "There is one only: leave 'time' out.",
    )


def check_single_content(options: FileOptions) -> None:
    """Check the options for a file that holds one thing only. Raises BadInput."""
    choose_series([""], options.series, 0)
    choose_time(1, options.time)


def name_some(names: Sequence[str]) -> str:
    """Return "0: a, 1: b" for an error message, and how many more there are."""
    named = [f"{number}: {name[:MAX_NAME_CHARS]}" for number, name in enumerate(names[:MAX_NAMED_CONTENTS])]
    more = f" and {len(names) - len(named)} more" if len(names) > len(named) else ""
    return ", ".join(named) + more


def list_contents(contents: Sequence[FileContent]) -> tuple[FileContent, ...]:
    """Return what a record lists of the contents: the first ones, with its texts cut.

    What was taken is always listed: in the last place if it comes later.
    """
    listed = list(contents[:MAX_LISTED_CONTENTS])
    for content in contents[MAX_LISTED_CONTENTS:]:
        if content.taken_time is not None:
            listed[-1] = content
    return tuple(
        replace(
            content,
            series=content.series[:MAX_NAME_CHARS],
            description=content.description[:MAX_NAME_CHARS],
            notes=tuple(note[:MAX_NOTE_CHARS] for note in content.notes[:MAX_NOTES]),
        )
        for content in listed
    )


def list_left_out(files: Sequence[LeftOutFile]) -> LeftOut:
    """Return the count of the files, and the first ones with texts cut to MAX_NAME_CHARS."""
    listed = (
        LeftOutFile(file.name[:MAX_NAME_CHARS], file.reason[:MAX_NAME_CHARS])
        for file in files[:MAX_LISTED_LEFT_OUT]
    )
    return LeftOut(len(files), tuple(listed))
