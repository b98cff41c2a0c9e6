"""Tiles give what the whole image would."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from segserve.models.bundle import SemanticManifest
from segserve.semantic.preprocess import Prepared, prepare
from segserve.semantic.sliding_window import Flips, lay, slide
from segserve.types import Float32, UInt8
from tests.semantic.bundles import Blurred, manifest, opened

REACH = 3  # pixels, of `Blurred`


def picture(height: int, width: int) -> UInt8:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def whole(prepared: Prepared, run: object, described: SemanticManifest, **options: object) -> Float32:
    bands = [(top, band.copy()) for top, band in slide(prepared, run, described, **options)]  # type: ignore[arg-type]
    assert [top for top, _ in bands] == list(np.cumsum([0, *(band.shape[1] for _, band in bands)])[:-1])
    return np.concatenate([band for _, band in bands], axis=1)


@pytest.mark.parametrize("length", [1, 7, 63, 64, 65, 100, 257, 1000])
@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5, 0.75])
def test_tiles_cover_an_axis_and_their_weights_add_up_to_one(length: int, overlap: float) -> None:
    axis = lay(length, 64, overlap, 8, fixed=False)
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


def test_a_small_image_is_one_tile_no_larger_than_it_must_be() -> None:
    assert (lay(100, 512, 0.25, 32, fixed=False).edge, lay(100, 512, 0.25, 32, fixed=True).edge) == (128, 512)


@pytest.mark.parametrize("size", [(256, 256), (193, 130), (64, 300), (20, 30), (5, 5)])
@pytest.mark.parametrize("at_once", [1, 3])
def test_tiles_answer_as_the_whole_image_does_away_from_blends(
    tmp_path: Path, size: tuple[int, int], at_once: int
) -> None:
    model = opened(tmp_path, Blurred(3, 3))
    prepared = prepare(picture(*size), model.manifest.input)
    options = {"tile": (64, 64), "overlap": 0.25, "at_once": at_once}
    found = whole(prepared, model.probabilities, model.manifest, **options)
    edges = [-(-edge // 8) * 8 for edge in size]
    expected = model.probabilities(prepared.cut(0, 0, *edges)[None])[0][:, : size[0], : size[1]]
    assert found.shape == (3, *size)
    difference = np.abs(found - expected).max(axis=0)
    rows, columns = (lay(edge, 64, 0.25, 8, fixed=False) for edge in size)
    reached = np.zeros(size, np.bool_)  # by what a tile makes of its border
    for y in rows.starts:
        reached[max(0, y - 1) : y + REACH] = reached[y + rows.edge - REACH : y + rows.edge] = True
    for x in columns.starts:
        reached[:, max(0, x - 1) : x + REACH] = reached[:, x + columns.edge - REACH : x + columns.edge] = True
    assert difference[~reached].max(initial=0) < 1e-5
    # Where a tile meets its border it counts for little: 3 of the 16 pixels of overlap, at most 2.5/16 of a tile.
    # (At the far edges the whole image above was padded, and the last tile was not.)
    assert difference[:-REACH, :-REACH].max() < 2.5 / 16


def test_blends_are_seamless(tmp_path: Path) -> None:
    """Tiles that answer differently fade into each other: no step is larger than a tile's share per pixel."""
    described = manifest(classes=("a",), input={"channels": 1})
    answers = iter(np.linspace(0, 1, 1000))

    def another(images: Float32) -> Float32:
        return np.full((len(images), 1, *images.shape[2:]), next(answers) % 0.02 * 50, np.float32)

    prepared = prepare(picture(200, 300), described.input)
    found = whole(prepared, another, described, tile=(64, 64), overlap=0.25)[0]
    steps = max(np.abs(np.diff(found, axis=axis)).max() for axis in (0, 1))
    assert steps <= 1 / 16 + 1e-5


def test_a_fixed_graph_sees_its_tile_whatever_the_image(tmp_path: Path) -> None:
    described = manifest(classes=("a",), input={"channels": 1}, fixed=True, tile=(64, 96))
    seen: set[tuple[int, ...]] = set()

    def note(images: Float32) -> Float32:
        seen.add(images.shape[1:])
        return images

    for size in ((10, 10), (64, 96), (200, 97)):
        found = whole(prepare(picture(*size), described.input), note, described, tile=(64, 96), overlap=0.25)
        assert found.shape == (1, *size)
    assert seen == {(1, 64, 96)}


@pytest.mark.parametrize("flips", Flips)
def test_flips_average_the_mirrored_answers(flips: Flips) -> None:
    described = manifest(tile=(64, 64))
    slope = np.linspace(0, 1, 64, dtype=np.float32)
    tilted = slope[:, None] * 0.5 + slope[None] ** 2  # depends on where in the tile a pixel lies

    def run(images: Float32) -> Float32:
        return images + tilted

    image = picture(64, 64)
    found = whole(prepare(image, described.input), run, described, tile=(64, 64), overlap=0, flips=flips)
    turned = {
        Flips.NONE: [tilted],
        Flips.HORIZONTAL: [tilted, tilted[:, ::-1]],
        Flips.VERTICAL: [tilted, tilted[::-1]],
        Flips.BOTH: [tilted, tilted[:, ::-1], tilted[::-1], tilted[::-1, ::-1]],
    }[flips]
    expected = image.transpose(2, 0, 1) / np.float32(255) + np.mean(turned, axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
