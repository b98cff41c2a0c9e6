"""The table of a corpus: counts by format and verdict, and the doubtful files."""

from collections import Counter
from collections.abc import Sequence

from tests.corpus.verdicts import DOUBTFUL, FileResult, RouteResult, Verdict

MAX_MESSAGE_CHARS = 220


def format_report(results: Sequence[FileResult], peak_mb: float, start_mb: float, restarts: int) -> str:
    """Return the report as text."""
    lines = [*count_table(results), ""]
    for verdict in Verdict:
        found = [each for each in results if each.verdict is verdict and verdict in DOUBTFUL]
        if found:
            lines += [f"{verdict} ({len(found)})", *(describe(each) for each in found), ""]
    leaking = [each for each in results if any(route.leak for route in each.routes)]
    if leaking:
        lines += [f"a path or a library's text in a message ({len(leaking)})"]
        lines += [f"  {each.path}: {route.leak}" for each in leaking for route in each.routes if route.leak]
        lines += [""]
    alone = [each.path for each in results if each.verdict is Verdict.UNKNOWN]
    if alone:
        lines += [f"{Verdict.UNKNOWN} ({len(alone)})", *(f"  {path}" for path in alone), ""]
    slow = [each for each in results if each.slow]
    if slow:
        lines += [f"slow ({len(slow)})"]
        lines += [f"  {each.path}: {max(route.seconds for route in each.routes):.1f} s" for each in slow]
        lines += [""]
    largest = sorted(results, key=lambda each: -each.peak_mb)[:3]
    slowest = max((route.seconds for each in results for route in each.routes), default=0)
    broken = sum(each.broken for each in results)
    lines += [
        f"{len(results)} files, {broken} with a broken promise, {sum(each.verdict in DOUBTFUL for each in results)}"
        " doubtful",
        f"memory: {peak_mb:.0f} MB at most above the {start_mb:.0f} MB of the start; slowest upload {slowest:.1f} s;"
        f" the service died {restarts} times",
        "most memory with " + ", ".join(f"{each.path} ({each.peak_mb:.0f} MB)" for each in largest),
    ]
    return "\n".join(lines)


def count_table(results: Sequence[FileResult]) -> list[str]:
    """Return the lines of a table: a row a format, a column a verdict that occurs."""
    counts = Counter((each.format, each.verdict) for each in results)
    verdicts = [verdict for verdict in Verdict if any(found is verdict for _, found in counts)]
    formats = sorted({each.format for each in results})
    rows = [["format", *verdicts, "all"]]
    for name in formats:
        row = [counts[name, verdict] for verdict in verdicts]
        rows.append([name, *(str(count or "") for count in row), str(sum(row))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [format_row(row, widths) for row in rows]


def format_row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return the cells in columns, the first one to the left and the others to the right."""
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def describe(result: FileResult) -> str:
    """Return a line for the last route that decides the verdict of a file: POST /v1/files, if both do."""
    routes = [route for route in result.routes if route.verdict is result.verdict]
    return f"  {result.path}: {describe_route(routes[-1])}"


def describe_route(route: RouteResult) -> str:
    shown = f"/v1/{route.route} {route.status}"
    if route.reader and route.status != 201:
        shown += f", read by {route.reader}"
    return f"{shown}. {route.detail or route.message}"[:MAX_MESSAGE_CHARS]
