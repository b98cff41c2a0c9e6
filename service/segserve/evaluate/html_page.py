"""A page of overlays to look at, worst cases first: one file, no script, nothing fetched."""

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
MAX_SIDE_PX = 900  # pixels of a picture on the page

# Told apart with any colour vision, on dark and bright images.
TRUTH_COLOUR, PREDICTION_COLOUR, BOTH_COLOUR = (0, 229, 255), (255, 98, 0), (255, 255, 255)

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
class Case:
    """score: what it is worst by. caption: its other scores. picture: PNG."""

    name: str
    score: float
    caption: str
    picture: bytes


class WorstCases:
    """The worst cases, lowest score first, of all whose score was asked about."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.seen = 0

    def wants(self, score: float) -> bool:
        """Counts the case; False where it will not be shown, so that its picture need not be drawn."""
        self.seen += 1
        return len(self.cases) < MAX_CASES or score < self.cases[-1].score

    def add(self, case: Case) -> None:
        bisect.insort(self.cases, case, key=lambda each: each.score)
        del self.cases[MAX_CASES:]


def draw_outlines(image: UInt8 | None, truth: Labels, found: Labels) -> bytes:
    """PNG: both maps' outlines over the image [H, W, 3], or over black; scaled down where it is large."""
    height, width = truth.shape
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    if image is not None:
        picture = np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    there, seen = (find_boundaries(downsample_labels(each, size)) for each in (truth, found))
    for where, colour in ((there, TRUTH_COLOUR), (seen, PREDICTION_COLOUR), (there & seen, BOTH_COLOUR)):
        picture[where] = colour
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def downsample_labels(labels: Labels, size: tuple[int, int]) -> Labels:
    """The nearest pixels of the map at (width, height)."""
    rows = ((np.arange(size[1]) + 0.5) * labels.shape[0] / size[1]).astype(int)
    columns = ((np.arange(size[0]) + 0.5) * labels.shape[1] / size[0]).astype(int)
    small: Labels = labels[rows[:, None], columns]
    return small


def render_page(title: str, score: str, tables: Sequence[Sequence[Sequence[str]]], worst: WorstCases) -> str:
    """The page. score: the name of what the cases are worst by. tables: rows of cells, the first row the head."""
    shown = len(worst.cases)
    which = f"All {shown} images" if shown == worst.seen else f"The worst {shown} of {worst.seen} images"
    keys = "".join(
        f'<span class="key" style="background: rgb{colour}"></span>{name}'
        for colour, name in (
            (TRUTH_COLOUR, "truth"),
            (PREDICTION_COLOUR, "prediction"),
            (BOTH_COLOUR, "both"),
        )
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
{"".join(render_table(rows) for rows in tables)}
<p>{which}, lowest {html.escape(score)} first. Outlines: {keys}</p>
<div class="cases">
{"".join(render_figure(case, score) for case in worst.cases)}</div>
</body></html>
"""


def render_table(rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{row(rows[0], 'th')}{''.join(row(cells, 'td') for cells in rows[1:])}</table>"


def render_figure(case: Case, score: str) -> str:
    data = base64.b64encode(case.picture).decode()
    return (
        f'<figure><img alt="{html.escape(case.name, quote=True)}" src="data:image/png;base64,{data}">'
        f"<figcaption><b>{html.escape(case.name)}</b> {html.escape(score)} {case.score:.3f}<br>"
        f"<span>{html.escape(case.caption)}</span></figcaption></figure>\n"
    )
