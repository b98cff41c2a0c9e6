"""What is printed, written as JSON and shown on the page."""

import math
from collections.abc import Callable, Sequence
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

Rows = list[list[str]]

SCORE_TITLES = {
    "msa": "mSA", "sa50": "SA(0.5)", "sa75": "SA(0.75)", "precision50": "precision(0.5)", "recall50": "recall(0.5)",
    "f1_50": "F1(0.5)", "adjusted_rand": "adjusted Rand", "iou": "IoU", "dice": "Dice", "mean_iou": "mean IoU",
    "mean_dice": "mean Dice", "accuracy": "pixel accuracy",
    "hausdorff_regions": "Hausdorff, regions", "hausdorff_regions_95": "Hausdorff 95%, regions",
    "hausdorff_boundaries": "Hausdorff, boundaries", "hausdorff_boundaries_95": "Hausdorff 95%, boundaries",
}  # fmt: skip
PROTOCOL_COLUMNS: dict[str, Callable[[ProtocolScores], list[float]]] = {
    "mean IoU": lambda course: course.iou,
    "mSA": lambda course: course.msa,
    "SA(0.5)": lambda course: course.sa50,
    "SA(0.75)": lambda course: course.sa75,
}
MAX_TRIALS_SHOWN = 10
CAPTION_SCORES = {
    MapKind.LABELS: ("sa50", "adjusted_rand", "dice"),
    MapKind.CLASSES: ("mean_dice", "accuracy"),
    MapKind.BINARY: ("dice", "hausdorff_boundaries_95"),
}


def format_number(name: str, value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.1f}" if name in DISTANCE_SCORES else f"{value:.3f}"


def score_table(judgement: DatasetScores, unit: str) -> Rows:
    """Every score of the set: its mean over the images, all images as one where that is defined, its worst."""
    rows = [["score", "mean", "all as one", "worst", "image"]]
    for name, mean in judgement.mean.items():
        far = name in DISTANCE_SCORES
        worst = (max if far else min)(judgement.images, key=lambda each: each.values[name])
        missing = judgement.not_finite.get(name, 0)
        rows.append(
            [
                SCORE_TITLES[name] + (f" ({unit})" if far else ""),
                format_number(name, mean) + (f", {missing} infinite" if missing else ""),
                format_number(name, judgement.pooled[name]) if name in judgement.pooled else "",
                format_number(name, worst.values[name]),
                worst.name,
            ]
        )
    return rows


def class_table(judgement: DatasetScores) -> Rows:
    return [
        ["class", "IoU, all images as one"],
        *([str(value), f"{iou:.3f}"] for value, iou in judgement.class_iou.items()),
    ]


def protocol_tables(courses: Sequence[ProtocolScores]) -> list[Rows]:
    """A table for each score, with a row for each way to ask and a column for each step."""
    steps = range(1, courses[0].protocol.steps + 1)
    return [
        [
            [f"{title} after step", *map(str, steps)],
            *([course.protocol.name, *(f"{value:.3f}" for value in values(course))] for course in courses),
        ]
        for title, values in PROTOCOL_COLUMNS.items()
    ]


def trial_table(trials: Sequence[Trial]) -> Rows:
    """The best settings and the worst one, so that one sees what there was to gain."""
    shown = [*trials[:MAX_TRIALS_SHOWN], *trials[MAX_TRIALS_SHOWN:][-1:]]
    names = list(shown[0].params)
    heads = [name.replace("_", "\n") for name in names]
    return [["mSA", *heads], *([f"{t.msa:.4f}", *(f"{t.params[n]:g}" for n in names)] for t in shown)]


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
    return " · ".join(
        f"{SCORE_TITLES[name]} {format_number(name, scores.values[name])}" for name in CAPTION_SCORES[kind]
    )


def main_score_title(kind: MapKind) -> str:
    return SCORE_TITLES[MAIN_SCORE[kind]]


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
