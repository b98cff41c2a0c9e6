"""A contact sheet: some frames or slices side by side, with what was found on them."""

import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segserve.files.frames import Frames
from segserve.rendering.overlay import drawn, places
from segserve.rendering.result_index import Lines
from segserve.types import Size, UInt8

MOST = 36
CELL, LEAST = 256, 16  # pixels of a picture's longer side, and of its shorter one
GAP = 4
TEXT = 14


def sheet(frames: Frames, lines: Lines, pixel: tuple[float, float] = (1.0, 1.0)) -> Iterator[bytes]:
    """A PNG of at most MOST frames, evenly chosen among those with objects, each with its number; of all frames where
    none has any. It is at most 6 x 6 pictures of CELL pixels, however large the frames are. pixel: a frame's pixel's
    height and width, in any unit. A part for each frame, all empty but the last."""
    chosen = evenly(lines.occupied() or range(frames.count))
    cell = fitted(frames.size, pixel)
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    page = Image.new("RGB", (columns * (cell.width + GAP) - GAP, rows * (cell.height + GAP) - GAP), "white")
    for number, frame in enumerate(chosen):
        row, column = divmod(number, columns)
        page.paste(
            picture(frames, lines, frame, cell), (column * (cell.width + GAP), row * (cell.height + GAP))
        )
        yield b""
    out = io.BytesIO()
    page.save(out, "PNG", compress_level=4)
    yield out.getvalue()


def evenly(frames: Sequence[int]) -> list[int]:
    wanted = np.linspace(0, len(frames) - 1, min(MOST, len(frames))).round().astype(int)
    return [frames[place] for place in wanted]


def fitted(size: Size, pixel: tuple[float, float]) -> Size:
    """The size of a picture: in proportion to what the frame shows."""
    height, width = size.height * pixel[0], size.width * pixel[1]
    scale = CELL / max(height, width)
    return Size(max(LEAST, round(scale * height)), max(LEAST, round(scale * width)))


def picture(frames: Frames, lines: Lines, frame: int, cell: Size) -> Image.Image:
    entries = lines.entries(frame)
    image = Image.fromarray(frames.read(frame)).resize(
        (cell.width, cell.height), Image.Resampling.BILINEAR, reducing_gap=2.0
    )
    # Drawn after scaling: outlines would not outlive it.
    rows = centres(frames.size.height, cell.height)
    shown = places(entries, frames.size)[np.ix_(rows, centres(frames.size.width, cell.width))]
    pixels: UInt8 = drawn(np.asarray(image), shown, entries)
    labelled = Image.fromarray(pixels)
    font = ImageFont.load_default(TEXT)
    ImageDraw.Draw(labelled).text((4, 2), str(frame), "white", font, stroke_width=2, stroke_fill="black")
    return labelled


def centres(edge: int, onto: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """The pixels of an edge that `onto` pixels show: their nearest."""
    return ((np.arange(onto) + 0.5) * edge / onto).astype(np.intp)
