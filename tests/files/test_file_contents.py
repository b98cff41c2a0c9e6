"""A series is chosen by its name or its number, a point in time by its number; what is listed is bounded."""

import pytest

from segserve.errors import BadInput
from segserve.files.file_contents import (
    MAX_LISTED_CONTENTS,
    MAX_LISTED_LEFT_OUT,
    MAX_NAME_CHARS,
    check_single_content,
    choose_series,
    choose_time,
    list_contents,
    list_left_out,
)
from segserve.types import FileContent, FileOptions, LeftOutFile, Size

NAMES = ["1.2.3", "1.2.4", "0"]


@pytest.mark.parametrize(("series", "index"), [(None, 1), ("1.2.3", 0), ("1", 1), ("2", 2), ("0", 2)])
def test_a_series_is_chosen_by_name_first_then_by_number(series: str | None, index: int) -> None:
    assert choose_series(NAMES, series, 1) == index


@pytest.mark.parametrize("series", ["3", "-1", "1.2", "9" * 5000, "x", "²"])
def test_a_series_that_is_not_there_is_refused(series: str) -> None:
    with pytest.raises(BadInput, match="no series") as raised:
        choose_series(NAMES, series, 1)
    assert (raised.value.field, "1: 1.2.4" in raised.value.remedy) == ("series", True)


def test_a_time_that_is_not_there_is_refused() -> None:
    assert [choose_time(3, time) for time in (None, 0, 2)] == [0, 0, 2]
    for time in (3, -1):
        with pytest.raises(BadInput, match="no point in time") as raised:
            choose_time(3, time)
        assert (raised.value.field, "0 to 2" in raised.value.remedy) == ("time", True)


def test_a_file_of_one_thing_has_number_0_only() -> None:
    for options in (FileOptions(), FileOptions("0", 0)):
        check_single_content(options)
    for options, field in ((FileOptions("1"), "series"), (FileOptions(time=1), "time")):
        with pytest.raises(BadInput) as raised:
            check_single_content(options)
        assert raised.value.field == field


def test_what_is_listed_is_bounded_and_has_what_was_taken() -> None:
    contents = [FileContent("x" * 500, "", 1, 1, Size(1, 1)) for _ in range(300)]
    contents[200] = FileContent("taken", "", 1, 1, Size(1, 1), 0)
    listed = list_contents(contents)
    assert len(listed) == MAX_LISTED_CONTENTS
    assert [content.series for content in listed if content.taken_time is not None] == ["taken"]
    assert max(len(content.series) for content in listed) == MAX_NAME_CHARS
    left_out = list_left_out([LeftOutFile("n" * 500, "r")] * 70)
    assert (left_out.count, len(left_out.files), len(left_out.files[0].name)) == (
        70,
        MAX_LISTED_LEFT_OUT,
        MAX_NAME_CHARS,
    )
