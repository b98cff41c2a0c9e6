"""Tables of models: with lines in a terminal, plain where the output goes into a file or another program."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

COLUMN_GAP = "  "


def print_table(console: Console, title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. The first column, the names that other commands take, is never cut or wrapped.

    Outside a terminal each row is one line, however long, with columns of equal width and nothing between them but
    spaces.
    """
    if not console.is_terminal:
        print_plain(console, title, names, rows)
        return
    widest = max((len(row[0]) for row in rows), default=0)
    first, *others = names
    table = Table(
        Column(first, no_wrap=True, min_width=widest),
        *(Column(name, overflow="fold") for name in others),
        title=title,
        title_justify="left",
    )
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def print_plain(console: Console, title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [names, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    console.file.write(f"{title}\n")
    for line in lines:
        cells = (" ".join(cell.split()).ljust(width) for cell, width in zip(line, widths, strict=True))
        console.file.write(COLUMN_GAP.join(cells).rstrip() + "\n")
