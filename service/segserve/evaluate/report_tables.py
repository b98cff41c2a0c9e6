"""The tables that are printed and shown on the page, and the JSON file."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.grid_search import Trial
from segserve.evaluate.iterative_prompting import ProtocolScores
from segserve.evaluate.scores import DISTANCE_SCORES, MAIN_SCORE, DatasetScores, ImageScores

Rows = list[list[str]]  # of cells; the first row is the head

SCORE_TITLES = {
    "msa": "mSA", "sa50": "SA(0.5)", "sa75": "SA(0.75)", "precision50": "precision(0.5)", "recall50": "recall(0.5)",
    "f1_50": "F1(0.5)", "adjusted_rand": "adjusted Rand", "iou": "IoU", "dice": "Dice", "mean_iou": "mean IoU",
    "mean_dice": "mean Dice", "accuracy": "pixel accuracy",
    "hausdorff_regions": "Hausdorff, regions", "hausdorff_regions_95": "Hausdorff 95%, regions",
    "hausdorff_boundaries": "Hausdorff, boundaries", "hausdorff_boundaries_95": "Hausdorff 95%, boundaries",
}  # fmt: skip
PROTOCOL_COLUMNS: dict[str, Callable[[ProtocolScores], list[float]]] = {
    "mean IoU": lambda scores: scores.iou,
    "mSA": lambda scores: scores.msa,
    "SA(0.5)": lambda scores: scores.sa50,
    "SA(0.75)": lambda scores: scores.sa75,
}
MAX_TRIALS_SHOWN = 10  # beside the worst one
CAPTION_SCORES = {
    MapKind.LABELS: ("sa50", "adjusted_rand", "dice"),
    MapKind.CLASSES: ("mean_dice", "accuracy"),
    MapKind.BINARY: ("dice", "hausdorff_boundaries_95"),
}


def format_number(name: str, value: float) -> str:
    """Return the score `name` as text: "-" for infinity, one decimal for distances, else three."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.1f}" if name in DISTANCE_SCORES else f"{value:.3f}"


def score_table(scores: DatasetScores, unit: str) -> Rows:
    """Return a row for each score: the mean over the images, the pooled value if it has one, the worst image.

    unit: of distances.
    """
    rows = [["score", "mean", "pooled", "worst", "image"]]
    for name, mean in scores.mean.items():
        is_distance = name in DISTANCE_SCORES
        worst = (max if is_distance else min)(scores.images, key=lambda each: each.values[name])
        infinite = scores.not_finite.get(name, 0)
        rows.append(
            [
                SCORE_TITLES[name] + (f" ({unit})" if is_distance else ""),
                format_number(name, mean) + (f", {infinite} infinite" if infinite else ""),
                format_number(name, scores.pooled[name]) if name in scores.pooled else "",
                format_number(name, worst.values[name]),
                worst.name,
            ]
        )
    return rows


def class_table(scores: DatasetScores) -> Rows:
    """Return the pooled IoU of each class."""
    return [
        ["class", "IoU, pooled"],
        *([str(value), f"{iou:.3f}"] for value, iou in scores.class_iou.items()),
    ]


def protocol_tables(protocols: Sequence[ProtocolScores]) -> list[Rows]:
    """Return a table for each score, with a row for each protocol and a column for each step."""
    steps = range(1, protocols[0].protocol.steps + 1)
    return [
        [
            [f"{title} after step", *map(str, steps)],
            *([each.protocol.name, *(f"{value:.3f}" for value in values(each))] for each in protocols),
        ]
        for title, values in PROTOCOL_COLUMNS.items()
    ]


def trial_table(trials: Sequence[Trial]) -> Rows:
    """Return the best trials, and the worst one, which shows how much the search gained."""
    shown = [*trials[:MAX_TRIALS_SHOWN], *trials[MAX_TRIALS_SHOWN:][-1:]]
    names = list(shown[0].params)
    heads = [name.replace("_", "\n") for name in names]
    return [["mSA", *heads], *([f"{t.msa:.4f}", *(f"{t.params[n]:g}" for n in names)] for t in shown)]


def track_table(scores: Mapping[str, Mapping[str, float | None]]) -> Rows:
    """Return a row for each sequence. scores: by sequence and measure, None where the truth lacks what it needs."""
    measures = list(next(iter(scores.values())))
    rows = [["sequence", *measures]]
    for name, values in scores.items():
        rows.append([name, *("-" if value is None else f"{value:.3f}" for value in values.values())])
    if len(scores) > 1:
        columns = ([each[name] for each in scores.values()] for name in measures)
        known = [[value for value in column if value is not None] for column in columns]
        rows.append(["mean", *(f"{sum(each) / len(each):.3f}" if each else "-" for each in known)])
    return rows


def print_table(title: str, rows: Rows) -> None:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for index, head in enumerate(rows[0]):
        table.add_column(head, no_wrap=True, justify="right" if index else "left")
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)


def format_caption(kind: MapKind, scores: ImageScores) -> str:
    """Return the scores that the page shows below an image, beside its main score."""
    return " · ".join(
        f"{SCORE_TITLES[name]} {format_number(name, scores.values[name])}" for name in CAPTION_SCORES[kind]
    )


def main_score_title(kind: MapKind) -> str:
    """Return the title of the score that ranks the images."""
    return SCORE_TITLES[MAIN_SCORE[kind]]


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
