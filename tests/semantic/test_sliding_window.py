"""Sliding-window inference gives the probabilities that the whole image would."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from segserve.models.manifest import SemanticManifest
from segserve.semantic.preprocess import NetworkInput, prepare_input
from segserve.semantic.sliding_window import make_tile_axis, slide_window
from segserve.semantic.tta import Flips
from segserve.types import Float32, UInt8
from tests.semantic.bundles import Blurred, manifest, opened

RADIUS_PX = 3  # of `Blurred`: pixels that it reads on each side


def picture(height: int, width: int) -> UInt8:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run_image(
    network_input: NetworkInput, run: object, manifest: SemanticManifest, **options: object
) -> Float32:
    """Return the probabilities of the whole image; the bands must follow each other without gaps."""
    bands = [(top, band.copy()) for top, band in slide_window(network_input, run, manifest, **options)]  # type: ignore[arg-type]
    assert [top for top, _ in bands] == list(np.cumsum([0, *(band.shape[1] for _, band in bands)])[:-1])
    return np.concatenate([band for _, band in bands], axis=1)


@pytest.mark.parametrize("length", [1, 7, 63, 64, 65, 100, 257, 1000])
@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5, 0.75])
def test_tiles_cover_an_axis_and_their_weights_add_up_to_one(length: int, overlap: float) -> None:
    axis = make_tile_axis(length, 64, overlap, 8, fixed=False)
    total = np.zeros(max(length, axis.edge))
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        total[start : start + axis.edge] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.edge >= length
    assert axis.edge % 8 == 0
    steps = np.diff(axis.starts)
    assert (steps <= 64 * (1 - overlap)).all()
    assert len(steps) == 0 or steps.max() - steps.min() <= 1, "the overlaps are evenly spread"


def test_a_small_image_is_one_tile_no_larger_than_needed() -> None:
    assert make_tile_axis(100, 512, 0.25, 32, fixed=False).edge == 128
    assert make_tile_axis(100, 512, 0.25, 32, fixed=True).edge == 512


@pytest.mark.parametrize("size", [(256, 256), (193, 130), (64, 300), (20, 30), (5, 5)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_equal_the_whole_image_away_from_their_borders(
    tmp_path: Path, size: tuple[int, int], batch_size: int
) -> None:
    model = opened(tmp_path, Blurred(3, 3))
    network_input = prepare_input(picture(*size), model.manifest.input)
    options = {"tile": (64, 64), "overlap": 0.25, "batch_size": batch_size}
    result = run_image(network_input, model.predict_probabilities, model.manifest, **options)
    edges = [-(-edge // 8) * 8 for edge in size]
    expected = model.predict_probabilities(network_input.read_tile(0, 0, *edges)[None])[0][
        :, : size[0], : size[1]
    ]
    assert result.shape == (3, *size)
    difference = np.abs(result - expected).max(axis=0)
    rows, columns = (make_tile_axis(edge, 64, 0.25, 8, fixed=False) for edge in size)
    near_border = np.zeros(size, np.bool_)  # pixels that the zeros beyond a tile influence
    for y in rows.starts:
        near_border[max(0, y - 1) : y + RADIUS_PX] = True
        near_border[y + rows.edge - RADIUS_PX : y + rows.edge] = True
    for x in columns.starts:
        near_border[:, max(0, x - 1) : x + RADIUS_PX] = True
        near_border[:, x + columns.edge - RADIUS_PX : x + columns.edge] = True
    assert difference[~near_border].max(initial=0) < 1e-5
    # Near its border a tile has a small weight: within 3 of the 16 pixels of overlap, at most 2.5/16.
    # The far edges are left out: there the whole image above was padded, and the last tile was not.
    assert difference[:-RADIUS_PX, :-RADIUS_PX].max() < 2.5 / 16


def test_blends_are_seamless(tmp_path: Path) -> None:
    """Tiles with different results fade into each other: no step is larger than a tile's weight per pixel."""
    one_class = manifest(classes=("a",), input={"channels": 1})
    values = iter(np.linspace(0, 1, 1000))

    def run(images: Float32) -> Float32:
        return np.full((len(images), 1, *images.shape[2:]), next(values) % 0.02 * 50, np.float32)

    network_input = prepare_input(picture(200, 300), one_class.input)
    result = run_image(network_input, run, one_class, tile=(64, 64), overlap=0.25)[0]
    steps = max(np.abs(np.diff(result, axis=axis)).max() for axis in (0, 1))
    assert steps <= 1 / 16 + 1e-5


def test_a_fixed_graph_gets_its_own_tile_size_for_any_image(tmp_path: Path) -> None:
    fixed = manifest(classes=("a",), input={"channels": 1}, fixed=True, tile=(64, 96))
    shapes: set[tuple[int, ...]] = set()

    def run(images: Float32) -> Float32:
        shapes.add(images.shape[1:])
        return images

    for size in ((10, 10), (64, 96), (200, 97)):
        network_input = prepare_input(picture(*size), fixed.input)
        result = run_image(network_input, run, fixed, tile=(64, 96), overlap=0.25)
        assert result.shape == (1, *size)
    assert shapes == {(1, 64, 96)}


@pytest.mark.parametrize("flips", Flips)
def test_tta_flips_average_the_mirrored_results(flips: Flips) -> None:
    colours = manifest(tile=(64, 64))
    slope = np.linspace(0, 1, 64, dtype=np.float32)
    tilted = slope[:, None] * 0.5 + slope[None] ** 2  # depends on where in the tile a pixel lies

    def run(images: Float32) -> Float32:
        return images + tilted

    image = picture(64, 64)
    network_input = prepare_input(image, colours.input)
    result = run_image(network_input, run, colours, tile=(64, 64), overlap=0, flips=flips)
    mirrored = {
        Flips.NONE: [tilted],
        Flips.HORIZONTAL: [tilted, tilted[:, ::-1]],
        Flips.VERTICAL: [tilted, tilted[::-1]],
        Flips.BOTH: [tilted, tilted[:, ::-1], tilted[::-1], tilted[::-1, ::-1]],
    }[flips]
    expected = image.transpose(2, 0, 1) / np.float32(255) + np.mean(mirrored, axis=0)
    np.testing.assert_allclose(result, expected, atol=1e-6)
