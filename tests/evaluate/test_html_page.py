"""The page of the worst cases."""

import base64
import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segserve.evaluate.html_page import (
    BOTH_COLOUR,
    MAX_CASES,
    MAX_SIDE_PX,
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    WorstCase,
    WorstCases,
    draw_outlines,
    render_page,
)
from tests.evaluate.drawn_labels import draw_disc, draw_image


def read_png(picture: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(picture)))


def build_case(name: str, score: float) -> WorstCase:
    return WorstCase(
        name, score, f"caption of {name}", draw_outlines(None, np.ones((4, 4), int), np.ones((4, 4), int))
    )


def test_both_outlines_are_drawn_over_the_image() -> None:
    truth, prediction = np.zeros((50, 60), np.uint16), np.zeros((50, 60), np.uint16)
    draw_disc(truth, 25, 20, 10, 3)
    draw_disc(prediction, 25, 30, 10, 7)
    image = draw_image(truth)
    picture = read_png(draw_outlines(image, truth, prediction))
    assert tuple(picture[25, 10]) == TRUTH_COLOUR
    assert tuple(picture[25, 40]) == PREDICTION_COLOUR
    assert (picture == BOTH_COLOUR).all(axis=2).sum() >= 2  # where they cross
    assert (picture[25, 15] == image[25, 15]).all()
    assert (picture[5, 5] == image[5, 5]).all()


def test_without_an_image_outlines_are_drawn_over_black() -> None:
    labels = np.zeros((9, 9), np.uint16)
    labels[3:6, 3:6] = 1
    picture = read_png(draw_outlines(None, labels, labels))
    assert (picture.reshape(-1, 3).any(axis=1)).sum() == 8


def test_large_images_are_scaled_down_and_keep_their_outlines() -> None:
    labels = np.zeros((1200, 2400), np.uint16)
    draw_disc(labels, 600, 1200, 300, 1)
    picture = read_png(draw_outlines(draw_image(labels), labels, labels))
    assert picture.shape[:2] == (MAX_SIDE_PX // 2, MAX_SIDE_PX)
    assert (picture == BOTH_COLOUR).all(axis=2).sum() > 500


def test_the_worst_cases_come_first_and_only_those_shown_are_kept() -> None:
    worst = WorstCases()
    scores = np.random.default_rng(0).permutation(2 * MAX_CASES) / 1000
    for index, score in enumerate(scores):
        if worst.register(score):
            worst.add(build_case(str(index), score))
    assert [each.score for each in worst.cases] == sorted(scores)[:MAX_CASES]
    assert f"The worst {MAX_CASES} of {2 * MAX_CASES} images" in render_page("t", "mSA", [], worst)


def test_the_page_loads_nothing_and_escapes_names() -> None:
    worst = WorstCases()
    for name, score in (("good", 0.9), ("<b>bad</b>", 0.25)):
        assert worst.register(score)
        worst.add(build_case(name, score))
    page = render_page("A & B", "mSA", [[["score", "mean"], ["mSA", "0.575"]]], worst)
    assert "<h1>A &amp; B</h1>" in page
    assert "<td>0.575</td>" in page
    assert page.index("&lt;b&gt;bad") < page.index("good")
    assert "All 2 images" in page
    assert "caption of good" in page
    assert "<b>bad" not in page
    assert not re.search(r'(src|href)="(?!data:image/png;base64,)', page)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert [read_png(base64.b64decode(each)).shape for each in pictures] == [(4, 4, 3)] * 2
