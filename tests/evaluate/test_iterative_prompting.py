"""The course of the questions is checked with annotators that answer by rule; that models answer them is checked
through the command line."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest

from segserve.evaluate.cli_choices import Correction, FirstPrompt
from segserve.evaluate.iterative_prompting import (
    Protocol,
    StepScores,
    average_protocol_scores,
    crop_iou,
    prompt_iteratively,
    prompt_objects,
)
from segserve.masks import crop as crops
from segserve.masks import label_map as maps
from segserve.types import Bool, Candidate, Crop, Prompt, Size
from tests.evaluate.drawn import scene

SIZE = Size(60, 80)


def crop(y0: int, x0: int, y1: int, x1: int) -> Crop:
    return Crop(np.ones((y1 - y0, x1 - x0), bool), x0, y0, SIZE)


def mask(y0: int, x0: int, y1: int, x1: int) -> Bool:
    return crops.to_mask(crop(y0, x0, y1, x1))


@dataclass
class Annotator:
    """Answers with the given masks, the last again and again, and remembers what it was asked."""

    answers: list[Crop]
    asked: list[Prompt] = field(default_factory=list)

    def __call__(self, prompt: Prompt) -> Candidate:
        self.asked.append(prompt)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        return Candidate(answer, np.full((8, 8), len(self.asked), np.float32), 1.0)


TRUTH = crop(20, 30, 40, 60)
EMPTY = crops.empty_crop(SIZE)


def test_it_begins_with_the_deepest_pixel_and_adds_clicks_from_the_error() -> None:
    annotator = Annotator([crop(20, 30, 40, 50), crop(20, 30, 40, 70)])
    answers = list(
        prompt_iteratively(annotator, TRUTH, Protocol(FirstPrompt.POINT, with_mask=False, steps=3))
    )
    assert [crops.bounding_box(each)[2] for each in answers] == [50, 70, 70]
    first, second, third = annotator.asked
    ((x, y),) = first.points.tolist()
    assert (y, first.labels.tolist(), first.box) == (29, [1], None)
    assert 39 <= x <= 50
    assert second.labels.tolist() == [1, 1, 0]
    assert third.labels.tolist() == [1, 1, 0, 1, 0]
    assert third.points[:3].tolist() == second.points.tolist()
    (a, b), (c, d) = second.points[1:].astype(int)
    assert mask(20, 50, 40, 60)[b, a]  # missed
    assert not mask(20, 30, 40, 60)[d, c]  # nothing was too much: beside the object
    (a, b), (c, d) = third.points[3:].astype(int)
    assert mask(20, 30, 40, 60)[b, a]
    assert mask(20, 60, 40, 70)[d, c]


def test_a_box_stays_beside_the_clicks() -> None:
    annotator = Annotator([EMPTY])
    list(prompt_iteratively(annotator, TRUTH, Protocol(FirstPrompt.BOX, with_mask=False, steps=2)))
    first, second = annotator.asked
    assert first.box == second.box
    assert (first.box.x0, first.box.y0, first.box.x1, first.box.y1) == (30, 20, 60, 40)  # type: ignore[union-attr]
    assert len(first.points) == 0
    assert second.labels.tolist() == [1, 0]


@pytest.mark.parametrize("with_mask", [False, True])
def test_the_answer_before_is_the_prior_where_it_is_wanted(with_mask: bool) -> None:
    annotator = Annotator([TRUTH])
    list(prompt_iteratively(annotator, TRUTH, Protocol(FirstPrompt.POINT, with_mask, steps=3)))
    priors = [None if each.logits is None else float(each.logits[0, 0]) for each in annotator.asked]
    assert priors == ([None, 1.0, 2.0] if with_mask else [None, None, None])


def test_deepest_adds_one_click_a_step() -> None:
    annotator = Annotator([EMPTY])
    list(
        prompt_iteratively(
            annotator,
            TRUTH,
            Protocol(FirstPrompt.POINT, with_mask=False, steps=4, correction=Correction.DEEPEST),
        )
    )
    assert [len(each.points) for each in annotator.asked] == [1, 2, 3, 4]


def test_clicks_lie_on_the_image_also_for_objects_at_its_edge() -> None:
    corner = crop(50, 70, 60, 80)
    annotator = Annotator([crop(0, 0, 5, 5), EMPTY, corner])
    list(prompt_iteratively(annotator, corner, Protocol(FirstPrompt.POINT, with_mask=False, steps=8)))
    points = annotator.asked[-1].points
    assert (points >= 0).all()
    assert (points < [80, 60]).all()


def test_the_same_questions_each_time() -> None:
    first, second = Annotator([EMPTY]), Annotator([EMPTY])
    for each in (first, second):
        list(prompt_iteratively(each, TRUTH, Protocol(FirstPrompt.POINT, with_mask=False), seed=3))
    assert all((a.points == b.points).all() for a, b in zip(first.asked, second.asked, strict=True))


def test_iou_of_crops_is_that_of_their_masks() -> None:
    assert crop_iou(TRUTH, crop(20, 45, 40, 75)) == pytest.approx(300 / 900)
    assert crop_iou(TRUTH, crop(0, 0, 9, 9)) == crop_iou(TRUTH, EMPTY) == 0


def test_a_perfect_annotator_has_every_object_after_every_step() -> None:
    truth, _ = scene(0)
    objects = {tuple(crops.bounding_box(each)): each for each in maps.to_crops(truth)}

    def ask(prompt: Prompt) -> Candidate:
        assert prompt.box is not None
        box = prompt.box
        return Candidate(objects[box.x0, box.y0, box.x1, box.y1], np.zeros((8, 8), np.float32), 1.0)

    with ThreadPoolExecutor(2) as workers:
        judged = prompt_objects(ask, truth, Protocol(FirstPrompt.BOX, with_mask=True, steps=2), workers)
    assert [each.ious for each in judged.steps] == [[1.0] * len(objects)] * 2
    assert ((judged.found > 0) == (truth > 0)).all()
    course = average_protocol_scores(Protocol(FirstPrompt.BOX, with_mask=True, steps=2), [judged.steps])
    assert (course.objects, course.iou, course.msa, course.sa50) == (len(objects), [1, 1], [1, 1], [1, 1])


def test_small_objects_are_left_out_of_the_truth_too() -> None:
    truth, _ = scene(0)
    large = int(np.median(np.bincount(truth.ravel())[1:][np.bincount(truth.ravel())[1:] > 0]))
    nothing, protocol = (
        crops.empty_crop(Size(*truth.shape)),
        Protocol(FirstPrompt.POINT, with_mask=False, steps=1),
    )
    with ThreadPoolExecutor(1) as workers:
        judged = prompt_objects(Annotator([nothing]), truth, protocol, workers, large)
    sizes = np.bincount(truth.ravel())[1:]
    assert len(judged.steps[0].ious) == (sizes >= large).sum()
    assert np.bincount(judged.truth.ravel())[1:].min() >= large
    assert judged.steps[0].matched[0].false_negatives == (sizes >= large).sum()


def test_objects_count_alike_and_images_count_alike() -> None:
    """IoU is a mean over objects, SA over images, as micro-sam has it."""
    protocol = Protocol(FirstPrompt.POINT, with_mask=False, steps=1)
    with ThreadPoolExecutor(1) as workers:
        one = prompt_objects(Annotator([TRUTH]), maps.from_crops([TRUTH], SIZE), protocol, workers).steps
        two = maps.from_crops([crop(0, 0, 5, 5), crop(50, 50, 55, 55)], SIZE)
        none = prompt_objects(Annotator([EMPTY]), two, protocol, workers).steps
    course = average_protocol_scores(protocol, [one, none])
    assert (course.objects, course.iou, course.sa50) == (3, [pytest.approx(1 / 3)], [0.5])
    assert isinstance(one[0], StepScores)


def test_images_without_objects_say_nothing() -> None:
    protocol = Protocol(FirstPrompt.POINT, with_mask=False, steps=1)
    with ThreadPoolExecutor(1) as workers:
        missed = prompt_objects(Annotator([EMPTY]), maps.from_crops([TRUTH], SIZE), protocol, workers).steps
        nothing = prompt_objects(Annotator([]), maps.from_crops([], SIZE), protocol, workers).steps
    course = average_protocol_scores(protocol, [nothing, missed, nothing])
    assert (course.objects, course.iou, course.msa, course.sa50) == (1, [0], [0], [0])
