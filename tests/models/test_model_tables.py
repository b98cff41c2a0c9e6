"""Tables of models: names that can be copied, at any width."""

import io

import pytest
from rich.console import Console

from segserve.models.model_tables import print_table

NAMES = ("name", "licence", "description")
LONG = "a-model-with-a-very-long-name-that-others-take-as-an-argument"
ROWS = [[LONG, "Apache-2.0", "words " * 40], ["b", "MIT", "[red]no markup[/red]"]]


def test_piped_each_model_is_one_whole_line_without_lines_of_a_box() -> None:
    out = io.StringIO()
    print_table(Console(file=out, width=80), "Models", NAMES, ROWS)
    title, head, first, second = out.getvalue().splitlines()
    assert title == "Models"
    assert head.split() == list(NAMES)
    assert first.split(maxsplit=2)[0] == LONG
    assert first.count("words") == 40
    assert second.endswith("[red]no markup[/red]")
    assert out.getvalue().isascii()


@pytest.mark.parametrize("width", [80, 120])
def test_in_a_terminal_names_are_whole(width: int) -> None:
    out = io.StringIO()
    print_table(Console(file=out, width=width, force_terminal=True), "Models", NAMES, ROWS)
    assert any(LONG in line for line in out.getvalue().splitlines())
