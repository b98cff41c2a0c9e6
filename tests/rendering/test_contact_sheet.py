"""Contact sheets: some frames side by side, in proportion, with their objects."""

import io

import numpy as np
from PIL import Image

from segserve.files.volume_slices import VolumeSlices
from segserve.masks import label_map
from segserve.rendering.contact_sheet import CELL_PX, GAP_PX, pick_evenly, render_contact_sheet
from segserve.types import Size
from tests.rendering.drawn_lines import draw_disc, index_lines, make_line


def open_png(parts: object) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(b"".join(parts))))  # type: ignore[arg-type]


def test_slices_with_objects_stand_side_by_side() -> None:
    size = Size(100, 200)
    frames = VolumeSlices(np.full((50, 100, 200), 50, np.int16), 0, (0, 100))
    results = index_lines(
        *(make_line(at, {3: draw_disc(size, 150, 50, 30)}, index_key="slice") for at in range(20, 24))
    )
    sheet = open_png(render_contact_sheet(frames, results))
    results.close()
    assert sheet.shape == (2 * (CELL_PX // 2 + GAP_PX) - GAP_PX, 2 * (CELL_PX + GAP_PX) - GAP_PX, 3)
    edges = (sheet == label_map.make_colour_table([3])[1]).all(axis=2)
    for top in (0, CELL_PX // 2 + GAP_PX):
        for left in (0, CELL_PX + GAP_PX):
            cell = edges[top : top + CELL_PX // 2, left : left + CELL_PX]
            rows, columns = np.nonzero(cell)
            assert abs(columns.mean() - 192) < 2, "in proportion"
            assert abs(rows.mean() - 64) < 2
            assert abs(np.ptp(rows) - 77) <= 1
            assert abs(np.ptp(columns) - 77) <= 1


def test_the_sheet_is_bounded_however_many_and_large_the_slices_are() -> None:
    size = Size(700, 500)
    voxels = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 700, 500))
    results = index_lines(*(make_line(at, {1: draw_disc(size, 250, 250, 40)}) for at in range(200)))
    sheet = open_png(render_contact_sheet(VolumeSlices(voxels, 0, (0, 255)), results))
    results.close()
    assert max(sheet.shape) <= 6 * (CELL_PX + GAP_PX)
    corners = sheet[CELL_PX - 2 :: CELL_PX + GAP_PX, 4 :: round(CELL_PX * 5 / 7) + GAP_PX, 0]
    assert corners.shape == (6, 6)
    assert np.array_equal(corners.ravel(), pick_evenly(range(200)))


def test_pixels_that_are_not_square_are_shown_in_proportion() -> None:
    results = index_lines()
    sheet = open_png(
        render_contact_sheet(
            VolumeSlices(np.ones((1, 20, 100), np.uint8), 0, (0, 1)), results, pixel_size=(5.0, 1.0)
        )
    )
    results.close()
    assert sheet.shape == (CELL_PX, CELL_PX, 3)


def test_a_sheet_without_objects_shows_the_slices() -> None:
    results = index_lines()
    sheet = open_png(render_contact_sheet(VolumeSlices(np.ones((3, 20, 20), np.uint8), 0, (0, 1)), results))
    results.close()
    assert sheet.shape == (2 * (CELL_PX + GAP_PX) - GAP_PX, 2 * (CELL_PX + GAP_PX) - GAP_PX, 3)
