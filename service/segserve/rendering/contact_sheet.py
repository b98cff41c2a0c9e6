"""A contact sheet: some frames or slices side by side on one PNG, with their objects."""

import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segserve.files.frames import Frames
from segserve.rendering.overlay import draw_numbered_objects, number_objects
from segserve.rendering.result_index import ResultIndex
from segserve.types import Size, UInt8

# 6 x 6 cells: what fits on a screen.
MAX_FRAMES = 36

# The longer side of a cell.
CELL_PX = 256

# The least length of its shorter side, so that the frame of a very flat volume can still be seen.
MIN_SIDE_PX = 16

GAP_PX = 4
FONT_PX = 14


def render_contact_sheet(
    frames: Frames, results: ResultIndex, pixel_size: tuple[float, float] = (1.0, 1.0)
) -> Iterator[bytes]:
    """Render a PNG of at most MAX_FRAMES frames, each with its number.

    The frames are evenly chosen among those with objects, or among all frames if none has any. The sheet has at most
    6 x 6 cells of CELL_PX pixels, however large the frames are.

    pixel_size: height and width of a frame's pixel, in any unit.

    Yields a part for each frame. All parts are empty but the last.
    """
    chosen = pick_evenly(results.frames_with_objects() or range(frames.count))
    cell = fit_cell(frames.size, pixel_size)
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    width, height = columns * (cell.width + GAP_PX) - GAP_PX, rows * (cell.height + GAP_PX) - GAP_PX
    page = Image.new("RGB", (width, height), "white")
    for number, frame in enumerate(chosen):
        row, column = divmod(number, columns)
        corner = column * (cell.width + GAP_PX), row * (cell.height + GAP_PX)
        page.paste(render_cell(frames, results, frame, cell), corner)
        yield b""
    out = io.BytesIO()
    page.save(out, "PNG", compress_level=4)
    yield out.getvalue()


def pick_evenly(frames: Sequence[int]) -> list[int]:
    """Return at most MAX_FRAMES of the frames, the first and the last among them."""
    positions = np.linspace(0, len(frames) - 1, min(MAX_FRAMES, len(frames))).round().astype(int)
    return [frames[position] for position in positions]


def fit_cell(size: Size, pixel_size: tuple[float, float]) -> Size:
    """Return the size of a cell: in proportion to what the frame shows."""
    height, width = size.height * pixel_size[0], size.width * pixel_size[1]
    scale = CELL_PX / max(height, width)
    return Size(max(MIN_SIDE_PX, round(scale * height)), max(MIN_SIDE_PX, round(scale * width)))


def render_cell(frames: Frames, results: ResultIndex, frame: int, cell: Size) -> Image.Image:
    objects = results.get_objects(frame)
    image = Image.fromarray(frames.read(frame)).resize(
        (cell.width, cell.height), Image.Resampling.BILINEAR, reducing_gap=2.0
    )
    # Objects are drawn after scaling, because scaling would blur their outlines away.
    rows = nearest_pixels(frames.size.height, cell.height)
    columns = nearest_pixels(frames.size.width, cell.width)
    numbers = number_objects(objects, frames.size)[np.ix_(rows, columns)]
    pixels: UInt8 = draw_numbered_objects(np.asarray(image), numbers, objects)
    labelled = Image.fromarray(pixels)
    font = ImageFont.load_default(FONT_PX)
    ImageDraw.Draw(labelled).text((4, 2), str(frame), "white", font, stroke_width=2, stroke_fill="black")
    return labelled


def nearest_pixels(edge: int, target_edge: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the indices of the pixels that an edge keeps when it is scaled to `target_edge` pixels (nearest
    neighbour)."""
    return ((np.arange(target_edge) + 0.5) * edge / target_edge).astype(np.intp)
