"""A contact sheet: some frames or slices side by side, with what was found on them."""

import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segserve.files.frames import Frames
from segserve.rendering.overlay import draw_objects, number_objects
from segserve.rendering.result_index import ResultIndex
from segserve.types import Size, UInt8

MAX_FRAMES = 36
CELL_PX, MIN_CELL_PX = 256, 16  # pixels of a picture's longer side, and of its shorter one
GAP_PX = 4
FONT_PX = 14


def render_contact_sheet(
    frames: Frames, lines: ResultIndex, pixel: tuple[float, float] = (1.0, 1.0)
) -> Iterator[bytes]:
    """A PNG of at most MOST frames, evenly chosen among those with objects, each with its number; of all frames where
    none has any. It is at most 6 x 6 pictures of CELL pixels, however large the frames are. pixel: a frame's pixel's
    height and width, in any unit. A part for each frame, all empty but the last."""
    chosen = pick_evenly(lines.frames_with_objects() or range(frames.count))
    cell = fit_cell(frames.size, pixel)
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    page = Image.new(
        "RGB", (columns * (cell.width + GAP_PX) - GAP_PX, rows * (cell.height + GAP_PX) - GAP_PX), "white"
    )
    for number, frame in enumerate(chosen):
        row, column = divmod(number, columns)
        page.paste(
            render_cell(frames, lines, frame, cell),
            (column * (cell.width + GAP_PX), row * (cell.height + GAP_PX)),
        )
        yield b""
    out = io.BytesIO()
    page.save(out, "PNG", compress_level=4)
    yield out.getvalue()


def pick_evenly(frames: Sequence[int]) -> list[int]:
    wanted = np.linspace(0, len(frames) - 1, min(MAX_FRAMES, len(frames))).round().astype(int)
    return [frames[place] for place in wanted]


def fit_cell(size: Size, pixel: tuple[float, float]) -> Size:
    """The size of a picture: in proportion to what the frame shows."""
    height, width = size.height * pixel[0], size.width * pixel[1]
    scale = CELL_PX / max(height, width)
    return Size(max(MIN_CELL_PX, round(scale * height)), max(MIN_CELL_PX, round(scale * width)))


def render_cell(frames: Frames, lines: ResultIndex, frame: int, cell: Size) -> Image.Image:
    entries = lines.get_objects(frame)
    image = Image.fromarray(frames.read(frame)).resize(
        (cell.width, cell.height), Image.Resampling.BILINEAR, reducing_gap=2.0
    )
    # Drawn after scaling: outlines would not outlive it.
    rows = nearest_pixels(frames.size.height, cell.height)
    shown = number_objects(entries, frames.size)[np.ix_(rows, nearest_pixels(frames.size.width, cell.width))]
    pixels: UInt8 = draw_objects(np.asarray(image), shown, entries)
    labelled = Image.fromarray(pixels)
    font = ImageFont.load_default(FONT_PX)
    ImageDraw.Draw(labelled).text((4, 2), str(frame), "white", font, stroke_width=2, stroke_fill="black")
    return labelled


def nearest_pixels(edge: int, onto: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """The pixels of an edge that `onto` pixels show: their nearest."""
    return ((np.arange(onto) + 0.5) * edge / onto).astype(np.intp)
