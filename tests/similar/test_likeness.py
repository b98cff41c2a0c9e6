"""The scale of likeness: 0 for the background, 1 for the examples."""

import numpy as np
import pytest

from segserve.decode.object_descriptor import normalize_cells
from segserve.similar.likeness import fit_likeness
from segserve.types import Float32


def draw_cells(seed: int) -> Float32:
    rng = np.random.default_rng(seed)
    cells: Float32 = (rng.normal(size=(3, 20, 30)) + 4).astype(np.float32)
    return cells


def test_the_background_scores_0_and_the_mean_of_the_examples_1() -> None:
    directions = normalize_cells(draw_cells(0)[:, :20, :30])
    examples = [np.float32([1, 0, 0]), np.float32([0.8, 0.6, 0])]
    background = directions.mean(axis=(1, 2))
    scale = fit_likeness(background, examples)
    assert scale is not None
    assert scale.score(background) == pytest.approx(0, abs=1e-5)
    assert scale.score(np.mean(examples, axis=0)) == pytest.approx(1, abs=1e-5)
    assert scale.score_cells(directions)[3, 7] == pytest.approx(scale.score(directions[:, 3, 7]), abs=1e-5)


def test_cells_are_brought_to_length_1_and_padding_is_left_out() -> None:
    directions = normalize_cells((3 * draw_cells(1)).astype(np.float16)[:, :5, :8])
    assert directions.shape == (3, 5, 8)
    assert np.linalg.norm(directions, axis=0) == pytest.approx(1, abs=1e-3)


def test_what_is_opposite_to_the_examples_scores_below_the_background() -> None:
    background = np.float32([0.5, 0, 0])
    scale = fit_likeness(background, [np.float32([1, 0, 0])])
    assert scale is not None
    assert [scale.score(np.float32([x, 1, 0])) for x in (0, 0.5, 0.75)] == pytest.approx([-1, 0, 0.5])


def test_nothing_tells_examples_from_a_background_that_they_are() -> None:
    assert fit_likeness(np.float32([1, 0, 0]), [np.float32([1, 0, 0])]) is None
