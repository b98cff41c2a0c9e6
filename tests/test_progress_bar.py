"""Progress where nobody looks at a terminal: a line now and then."""

import pytest

from segserve import progress_bar
from segserve.progress_bar import count_progress, show_progress


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("images", 10) as on_progress:
        on_progress(1, 10)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_long_work_writes_lines_to_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 5.0, 10.0, 12.0, 30.0])
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: next(clock))
    with show_progress("images", None) as on_progress:
        for done in (1, 2, 3):
            on_progress(done, 8)
        on_progress(6, None)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "images: 2 of 8 after 10 s, 30 s to go\nimages: 6 after 30 s\n"


def test_steps_of_known_work_are_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 30.0])
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: next(clock))
    with count_progress("images", 4) as advance:
        advance()
        advance()
    assert capsys.readouterr().err.splitlines() == [
        "images: 1 of 4 after 10 s, 30 s to go",
        "images: 2 of 4 after 30 s, 30 s to go",
    ]
