"""The HTML page of the worst cases, and of the best: outlines of truth and prediction over each image.

The page is one file. It has no script and loads nothing.
"""

import base64
import bisect
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from segserve.evaluate.hausdorff import find_boundaries
from segserve.masks.label_map import Labels
from segserve.types import UInt8

MAX_CASES = 60
MAX_SIDE_PX = 900  # of a picture on the page

# These colours differ with any colour vision, on dark and on bright images.
TRUTH_COLOUR = (0, 229, 255)
PREDICTION_COLOUR = (255, 98, 0)
BOTH_COLOUR = (255, 255, 255)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem;
       background: #fafafa; color: #1c1c1c }
table { border-collapse: collapse; margin: 1rem 0 2rem }
th, td { padding: .25rem .9rem; text-align: right; border-bottom: 1px solid #ddd;
         font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 1.2rem;
         align-items: start }
figure { margin: 0; background: #fff; border: 1px solid #ddd; border-radius: 6px; overflow: hidden }
img { width: 100%; display: block; background: #000 }
figcaption { padding: .5rem .8rem; overflow-wrap: anywhere }
figcaption span { color: #666 }
.key { display: inline-block; width: 1.6em; height: .5em; border: 1px solid #888; margin: 0 .3em .1em 1em }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #eee } figure { background: #202020; border-color: #333 }
  th, td { border-color: #333 } figcaption span { color: #aaa }
}
"""


@dataclass(frozen=True)
class WorstCase:
    """One image on the page.

    score: ranks the cases, lowest first.
    caption: other scores, as text.
    picture: PNG.
    """

    name: str
    score: float
    caption: str
    picture: bytes


class WorstCases:
    """`WorstCases` keeps the cases of the lowest scores, lowest first, and counts all cases.

    max_cases: how many are kept.
    """

    def __init__(self, max_cases: int = MAX_CASES) -> None:
        self.cases: list[WorstCase] = []
        self.total = 0
        self._max_cases = max_cases

    def _rank(self, score: float) -> float:
        """The lowest come first."""
        return score

    def register(self, score: float) -> bool:
        """Count a case, and return whether the page will show it. If not, its picture need not be drawn."""
        self.total += 1
        return len(self.cases) < self._max_cases or self._rank(score) < self._rank(self.cases[-1].score)

    def add(self, case: WorstCase) -> None:
        """Add a case that `register` has counted."""
        bisect.insort(self.cases, case, key=lambda each: self._rank(each.score))
        del self.cases[self._max_cases :]


class BestCases(WorstCases):
    """`BestCases` keeps the cases of the highest scores, highest first."""

    def _rank(self, score: float) -> float:
        return -score


def draw_outlines(image: UInt8 | None, truth: Labels, prediction: Labels) -> bytes:
    """Return a PNG of both maps' outlines [H, W] over the image [H, W, 3], or over black.

    A picture larger than `MAX_SIDE_PX` is scaled down.
    """
    height, width = truth.shape
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    if image is not None:
        picture = np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    true_edges, predicted_edges = (
        find_boundaries(downsample_labels(each, size)) for each in (truth, prediction)
    )
    picture[true_edges] = TRUTH_COLOUR
    picture[predicted_edges] = PREDICTION_COLOUR
    picture[true_edges & predicted_edges] = BOTH_COLOUR
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def downsample_labels(labels: Labels, size: tuple[int, int]) -> Labels:
    """Return the nearest pixels of a map [H, W] at `size`, (width, height)."""
    rows = ((np.arange(size[1]) + 0.5) * labels.shape[0] / size[1]).astype(int)
    columns = ((np.arange(size[0]) + 0.5) * labels.shape[1] / size[0]).astype(int)
    small: Labels = labels[rows[:, None], columns]
    return small


def render_page(
    title: str,
    score: str,
    tables: Sequence[Sequence[Sequence[str]]],
    worst: WorstCases,
    best: BestCases | None = None,
    *,
    noun: str = "images",
) -> str:
    """Return the page as HTML.

    score: the name of the score that ranks the cases.
    tables: rows of cells; the first row is the head.
    noun: what a case is, in the plural.
    """
    colours = ((TRUTH_COLOUR, "truth"), (PREDICTION_COLOUR, "prediction"), (BOTH_COLOUR, "both"))
    keys = "".join(
        f'<span class="key" style="background: rgb{colour}"></span>{name}' for colour, name in colours
    )
    shown = len(worst.cases)
    heading = f"All {shown} {noun}" if shown == worst.total else f"The worst {shown} of {worst.total} {noun}"
    sections = render_cases(f"{heading}, lowest {score} first.", score, worst)
    if best is not None:
        heading = f"The best {len(best.cases)} of {best.total} {noun}, highest {score} first."
        sections += render_cases(heading, score, best)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
{"".join(render_table(rows) for rows in tables)}
<p>Outlines: {keys}</p>
{sections}</body></html>
"""


def render_cases(heading: str, score: str, cases: WorstCases) -> str:
    """Return a heading and the cases below it. score: the name of the score that ranks them."""
    figures = "".join(render_figure(case, score) for case in cases.cases)
    return f'<p>{html.escape(heading)}</p>\n<div class="cases">\n{figures}</div>\n'


def render_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as an HTML table; the first row is its head."""

    def render_row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return (
        f"<table>{render_row(rows[0], 'th')}{''.join(render_row(cells, 'td') for cells in rows[1:])}</table>"
    )


def render_figure(case: WorstCase, score: str) -> str:
    """Return a case as an HTML figure. score: the name of `case.score`."""
    data = base64.b64encode(case.picture).decode()
    return (
        f'<figure><img alt="{html.escape(case.name, quote=True)}" src="data:image/png;base64,{data}">'
        f"<figcaption><b>{html.escape(case.name)}</b> {html.escape(score)} {case.score:.3f}<br>"
        f"<span>{html.escape(case.caption)}</span></figcaption></figure>\n"
    )
