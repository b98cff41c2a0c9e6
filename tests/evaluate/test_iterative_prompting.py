"""The prompts of the protocol are checked with fake models that answer by rule; real models run in `test_cli`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest

from segserve.evaluate.cli_choices import Correction, FirstPrompt
from segserve.evaluate.iterative_prompting import (
    PromptingProtocol,
    StepScores,
    average_protocol_scores,
    crop_iou,
    prompt_iteratively,
    prompt_objects,
)
from segserve.masks import crop as crops
from segserve.masks import label_map
from segserve.types import Bool, Candidate, Crop, Prompt, Size
from tests.evaluate.drawn_labels import draw_scene

SIZE = Size(60, 80)
ONE_POINT = PromptingProtocol(FirstPrompt.POINT, with_mask=False, steps=1)


def crop(y0: int, x0: int, y1: int, x1: int) -> Crop:
    return Crop(np.ones((y1 - y0, x1 - x0), bool), x0, y0, SIZE)


def mask(y0: int, x0: int, y1: int, x1: int) -> Bool:
    return crops.to_mask(crop(y0, x0, y1, x1))


@dataclass
class FakeModel:
    """Answers with the given masks in turn, the last one again and again, and records the prompts."""

    masks: list[Crop]
    prompts: list[Prompt] = field(default_factory=list)

    def __call__(self, prompt: Prompt) -> Candidate:
        self.prompts.append(prompt)
        number = len(self.prompts)
        return Candidate(
            self.masks[min(number, len(self.masks)) - 1], np.full((8, 8), number, np.float32), 1.0
        )


TRUTH = crop(20, 30, 40, 60)
EMPTY = crops.empty_crop(SIZE)


def run_protocol(truth: Crop, protocol: PromptingProtocol, *masks: Crop, seed: int = 0) -> list[Prompt]:
    """Return the prompts that a fake model of these masks gets."""
    model = FakeModel(list(masks))
    list(prompt_iteratively(model, truth, protocol, seed))
    return model.prompts


def test_it_begins_with_the_deepest_pixel_and_adds_clicks_on_the_errors() -> None:
    model = FakeModel([crop(20, 30, 40, 50), crop(20, 30, 40, 70)])
    predictions = list(
        prompt_iteratively(model, TRUTH, PromptingProtocol(FirstPrompt.POINT, with_mask=False, steps=3))
    )
    assert [crops.bounding_box(each)[2] for each in predictions] == [50, 70, 70]
    first, second, third = model.prompts
    ((x, y),) = first.points.tolist()
    assert (y, first.labels.tolist(), first.box) == (29, [1], None)
    assert 39 <= x <= 50
    assert second.labels.tolist() == [1, 1, 0]
    assert third.labels.tolist() == [1, 1, 0, 1, 0]
    assert third.points[:3].tolist() == second.points.tolist()
    (a, b), (c, d) = second.points[1:].astype(int)
    assert mask(20, 50, 40, 60)[b, a]  # missed
    assert not mask(20, 30, 40, 60)[d, c]  # no excess, so beside the object
    (a, b), (c, d) = third.points[3:].astype(int)
    assert mask(20, 30, 40, 60)[b, a]
    assert mask(20, 60, 40, 70)[d, c]


def test_a_box_stays_in_the_prompt_beside_the_clicks() -> None:
    first, second = run_protocol(TRUTH, PromptingProtocol(FirstPrompt.BOX, with_mask=False, steps=2), EMPTY)
    assert first.box == second.box
    assert (first.box.x0, first.box.y0, first.box.x1, first.box.y1) == (30, 20, 60, 40)  # type: ignore[union-attr]
    assert len(first.points) == 0
    assert second.labels.tolist() == [1, 0]


@pytest.mark.parametrize("with_mask", [False, True])
def test_the_prediction_before_is_the_mask_prompt_where_the_protocol_says_so(with_mask: bool) -> None:
    prompts = run_protocol(TRUTH, PromptingProtocol(FirstPrompt.POINT, with_mask, steps=3), TRUTH)
    logits = [None if each.logits is None else float(each.logits[0, 0]) for each in prompts]
    assert logits == ([None, 1.0, 2.0] if with_mask else [None, None, None])


def test_the_deepest_correction_adds_one_click_a_step() -> None:
    protocol = PromptingProtocol(FirstPrompt.POINT, with_mask=False, steps=4, correction=Correction.DEEPEST)
    assert [len(each.points) for each in run_protocol(TRUTH, protocol, EMPTY)] == [1, 2, 3, 4]


def test_clicks_lie_on_the_image_also_for_objects_at_its_edge() -> None:
    corner = crop(50, 70, 60, 80)
    protocol = PromptingProtocol(FirstPrompt.POINT, with_mask=False, steps=8)
    points = run_protocol(corner, protocol, crop(0, 0, 5, 5), EMPTY, corner)[-1].points
    assert (points >= 0).all()
    assert (points < [80, 60]).all()


def test_the_same_seed_gives_the_same_prompts() -> None:
    protocol = PromptingProtocol(FirstPrompt.POINT, with_mask=False)
    first, second = (run_protocol(TRUTH, protocol, EMPTY, seed=3) for _ in range(2))
    assert all((a.points == b.points).all() for a, b in zip(first, second, strict=True))


def test_iou_of_crops_is_that_of_their_masks() -> None:
    assert crop_iou(TRUTH, crop(20, 45, 40, 75)) == pytest.approx(300 / 900)
    assert crop_iou(TRUTH, crop(0, 0, 9, 9)) == crop_iou(TRUTH, EMPTY) == 0


def test_a_perfect_model_has_every_object_after_every_step() -> None:
    truth, _ = draw_scene(0)
    objects = {crops.bounding_box(each): each for each in label_map.to_crops(truth)}

    def predict(prompt: Prompt) -> Candidate:
        assert prompt.box is not None
        box = prompt.box
        return Candidate(objects[box.x0, box.y0, box.x1, box.y1], np.zeros((8, 8), np.float32), 1.0)  # type: ignore[index]

    protocol = PromptingProtocol(FirstPrompt.BOX, with_mask=True, steps=2)
    with ThreadPoolExecutor(2) as threads:
        result = prompt_objects(predict, truth, protocol, threads)
    assert [each.ious for each in result.steps] == [[1.0] * len(objects)] * 2
    assert ((result.prediction > 0) == (truth > 0)).all()
    scores = average_protocol_scores(protocol, [result.steps])
    assert (scores.objects, scores.iou, scores.msa, scores.sa50) == (len(objects), [1, 1], [1, 1], [1, 1])


def prompt_all(truth: list[Crop], *masks: Crop) -> list[StepScores]:
    """Return the scores of an image with these objects, by a fake model of these masks."""
    with ThreadPoolExecutor(1) as threads:
        return prompt_objects(
            FakeModel(list(masks)), label_map.from_crops(truth, SIZE), ONE_POINT, threads
        ).steps


def test_small_objects_are_left_out_of_the_truth_too() -> None:
    truth, _ = draw_scene(0)
    sizes = np.bincount(truth.ravel())[1:]
    min_size = int(np.median(sizes[sizes > 0]))
    with ThreadPoolExecutor(1) as threads:
        result = prompt_objects(
            FakeModel([crops.empty_crop(Size(*truth.shape))]), truth, ONE_POINT, threads, min_size
        )
    assert len(result.steps[0].ious) == (sizes >= min_size).sum()
    assert np.bincount(result.truth.ravel())[1:].min() >= min_size
    assert result.steps[0].matches[0].false_negatives == (sizes >= min_size).sum()


def test_iou_is_a_mean_over_objects_and_sa_over_images_as_in_micro_sam() -> None:
    perfect = prompt_all([TRUTH], TRUTH)
    missed = prompt_all([crop(0, 0, 5, 5), crop(50, 50, 55, 55)], EMPTY)
    scores = average_protocol_scores(ONE_POINT, [perfect, missed])
    assert (scores.objects, scores.iou, scores.sa50) == (3, [pytest.approx(1 / 3)], [0.5])


def test_images_without_objects_are_left_out_of_the_means() -> None:
    missed, without_objects = prompt_all([TRUTH], EMPTY), prompt_all([])
    scores = average_protocol_scores(ONE_POINT, [without_objects, missed, without_objects])
    assert (scores.objects, scores.iou, scores.msa, scores.sa50) == (1, [0], [0], [0])
