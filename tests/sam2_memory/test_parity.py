"""Prompts on a video are answered as SAM2VideoPredictor answers them, on every frame, in both directions."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from segserve.types import Prompt, Select
from tests.rounding import MASK_DECODER_ERROR
from tests.sam2_memory.reference import COUNT, Both, box, disc, frames, points

LAST = COUNT - 1


def prompts_of_every_kind(both: Both) -> None:
    both.add(2, 1, points((50, 38, 1)))
    both.add(2, 7, box(20, 70, 60, 110))
    both.add(4, 3, disc(50, 90, 20))


@pytest.mark.parametrize(
    ("variant", "seed", "image_size"),
    [
        ("2.1_tiny", 0, 256),
        pytest.param("2.1_tiny", 1, 256, marks=pytest.mark.large),
        pytest.param("2_tiny", 1, 256, marks=pytest.mark.large),
    ],
)
def test_points_boxes_and_masks_forward_and_then_backward(
    tmp_path: Path, variant: str, seed: int, image_size: int
) -> None:
    both = Both(tmp_path, variant, seed, image_size)
    prompts_of_every_kind(both)
    both.track(2, 6)
    both.track(2, 0)
    assert both.says_something()


def test_an_object_that_is_not_there_has_no_mask_and_the_score_0(tmp_path: Path) -> None:
    both = Both(tmp_path, "2_tiny", seed=0)
    prompts_of_every_kind(both)
    both.track(2, 4)
    found = both.ours.track(5, frames()[5])
    assert {item.score for item in found.values()} == {0.0}
    assert not any(item.crop.pixels.size for item in found.values())


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.large) for seed in range(1, 5))])
def test_objects_that_look_back_together_are_found_as_each_alone(tmp_path: Path, seed: int) -> None:
    """As on a GPU. A batch's matrix products may add up in another order than those of one object."""
    both = Both(tmp_path, seed=seed, together=2, off=2 * MASK_DECODER_ERROR)
    prompts_of_every_kind(both)
    both.add(2, 9, points((90, 80, 1)))
    both.track(2, 6)
    both.track(2, 0)
    assert both.says_something()


def test_backward_from_the_last_frame(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.add(LAST, 1, points((50, 60, 1)))
    both.add(5, 2, box(30, 70, 80, 110))
    both.track(LAST, 1)
    assert both.says_something()


def test_prompts_on_one_frame_add_up(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.add(0, 1, points((50, 30, 1)))
    both.add(0, 1, points((60, 30, 1), (90, 90, 0)))
    both.add(0, 2, box(20, 70, 60, 110))
    both.add(0, 2, points((30, 90, 1)))
    both.add(0, 2, points((32, 80, 0)))
    both.add(3, 2, disc(50, 90, 20))
    both.add(3, 2, points((50, 90, 1)))
    both.add(
        3,
        1,
        Prompt(
            box=box(20, 20, 70, 70).box, points=points((50, 40, 1)).points, labels=points((0, 0, 1)).labels
        ),
    )
    both.track(0, 5)
    assert both.says_something()


def test_a_correction_on_the_way_and_an_object_that_comes_later(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.add(0, 1, points((50, 30, 1)))
    both.add(0, 2, box(20, 70, 60, 110))
    both.track(0, 4)
    both.add(4, 1, points((80, 60, 1), (20, 20, 0)))
    both.add(4, 1, points((50, 46, 1)))
    both.add(4, 5, points((50, 90, 1)))
    both.track(5, 7)
    both.add(7, 2, disc(70, 90, 20))
    both.add(7, 2, points((70, 90, 1)))
    both.track(7, 3)
    assert both.says_something()


def test_a_correction_of_a_prompted_frame_replaces_its_prompt(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.add(0, 1, points((50, 30, 1)))
    both.track(0, 3)
    both.add(3, 1, points((50, 42, 1)))
    both.track(3, 3)
    both.add(3, 1, points((90, 42, 0)))
    both.track(4, 6)
    assert both.says_something()


def test_the_first_candidate(tmp_path: Path) -> None:
    both, best = Both(tmp_path / "a"), Both(tmp_path / "b")
    for chosen, select in ((both, Select.FIRST), (best, Select.BEST)):
        chosen.add(0, 1, points((50, 30, 1)), select)
        chosen.add(1, 2, points((30, 90, 1), (60, 90, 0)), select)
        chosen.track(0, 4)
        chosen.add(4, 1, points((60, 50, 1)), select)
        chosen.track(5, 6)
    assert both.says_something()
    assert both.areas != best.areas
