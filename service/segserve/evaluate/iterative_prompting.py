"""Interactive models, judged as μSAM judges them (micro-sam's `run_inference_with_iterative_prompting`): each
object of the truth is asked for by a point or its box, and the answer corrected step by step from its error.

    first prompt    the pixel deepest inside the object (three candidates, the best-scored answers), or its box
    each step       asks again with all clicks so far, the box if there was one, and, with `with_mask`, the low-res
                    logits of the answer before

micro-sam differs in chance alone: its random clicks come from a generator that is not seeded.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from segserve.evaluate import object_matching, overlap_scores
from segserve.evaluate.cli_choices import DEFAULT_STEPS, Correction, FirstPrompt
from segserve.evaluate.object_matching import AT_50, AT_75, MatchCounts, mean_segmentation_accuracy
from segserve.evaluate.simulated_prompts import AROUND, Click, correct
from segserve.masks import crop as crops
from segserve.masks import geometry, label_map
from segserve.masks.label_map import Labels
from segserve.types import Bool, Box, Candidate, Crop, Float32, Prompt, Size

SEED = 0

Predict = Callable[[Prompt], Candidate]


@dataclass(frozen=True)
class Protocol:
    """steps: answers in all, the first among them. with_mask: each answer is the next question's prior."""

    start: FirstPrompt
    with_mask: bool
    steps: int = DEFAULT_STEPS
    correction: Correction = Correction.PAIRS

    @property
    def name(self) -> str:
        return f"{self.start}, {'with' if self.with_mask else 'without'} mask"


@dataclass(frozen=True)
class StepScores:
    """Of one image after one step: IoU of each object with its own answer; and the objects matched in the label
    map that the answers make together."""

    ious: list[float]
    matched: tuple[MatchCounts, ...]


@dataclass(frozen=True)
class PromptingResult:
    """One image: its truth, without the objects left out, and what was found after the last step, [H, W]."""

    truth: Labels
    found: Labels
    steps: list[StepScores]


def prompt_objects(
    ask: Predict, truth: Labels, protocol: Protocol, workers: Executor, smallest: int = 1
) -> PromptingResult:
    """The truth's objects of at least `smallest` pixels, [H, W] of ids.

    ask: answers a prompt; called in the threads of `workers`, one object each. Blocks.
    """
    size = Size(*truth.shape)
    objects = [each for each in label_map.to_crops(truth) if crops.area(each) >= smallest]
    kept = label_map.from_crops(objects, size)

    def one(index: int) -> list[Crop]:
        return list(prompt_iteratively(ask, objects[index], protocol, index))

    answers = list(workers.map(one, range(len(objects))))
    steps, found = [], kept
    for step in range(protocol.steps):
        found = label_map.from_crops([answer[step] for answer in answers], size)
        ious = [crop_iou(there, answer[step]) for there, answer in zip(objects, answers, strict=True)]
        steps.append(
            StepScores(
                ious,
                object_matching.match_at_thresholds(
                    object_matching.find_overlaps(overlap_scores.count_value_pairs(kept, found))
                ),
            )
        )
    return PromptingResult(kept, found, steps)


def prompt_iteratively(ask: Predict, truth: Crop, protocol: Protocol, seed: int = 0) -> Iterator[Crop]:
    """The answers after each step for one object, which is not empty."""
    rng = np.random.default_rng([SEED, seed])
    x0, y0, (mask,) = cut_common_window(truth)
    box = Box(*map(float, crops.bounding_box(truth))) if protocol.start is FirstPrompt.BOX else None
    clicks = [] if box else [shift_click((*geometry.deepest_pixel(mask), 1), x0, y0)]
    logits: Float32 | None = None
    for step in range(protocol.steps):
        answer = ask(build_prompt(clicks, box, logits))
        yield answer.crop
        if step + 1 < protocol.steps:
            x0, y0, (there, found) = cut_common_window(truth, answer.crop)
            clicks += [shift_click(c, x0, y0) for c in correct(there, found, protocol.correction, rng)]
            logits = answer.logits if protocol.with_mask else None


def build_prompt(clicks: list[Click], box: Box | None, logits: Float32 | None) -> Prompt:
    array = np.array(clicks, np.float32).reshape(-1, 3)
    return Prompt(array[:, :2], array[:, 2].astype(np.int64), box, logits=logits)


def cut_common_window(*masks: Crop) -> tuple[int, int, list[Bool]]:
    """(x, y, each mask [h, w] bool) of a window of the image that holds them all, with a rim as far as the image
    goes. At least one mask is not empty."""
    size = masks[0].size
    x0, y0, x1, y1 = np.array([crops.bounding_box(each) for each in masks if crops.area(each)]).T
    top, left = max(int(y0.min()) - AROUND, 0), max(int(x0.min()) - AROUND, 0)
    bottom = min(int(y1.max()) + AROUND, size.height)
    right = min(int(x1.max()) + AROUND, size.width)
    cut = []
    for each in map(crops.trim_crop, masks):
        mask = np.zeros((bottom - top, right - left), np.bool_)
        height, width = each.pixels.shape
        if height:
            mask[each.y - top :, each.x - left :][:height, :width] = each.pixels
        cut.append(mask)
    return left, top, cut


def shift_click(click: Click, x: int, y: int) -> Click:
    return click[0] + x, click[1] + y, click[2]


def crop_iou(truth: Crop, found: Crop) -> float:
    """Of two masks of one image; the truth is not empty."""
    _, _, masks = cut_common_window(truth, found)
    return geometry.iou(*masks)


@dataclass(frozen=True)
class ProtocolScores:
    """How a protocol went, step by step. iou: mean over all objects of all images. msa, sa50, sa75: of the label
    maps that the answers make together, mean over the images, as micro-sam reports them."""

    protocol: Protocol
    objects: int
    iou: list[float]
    msa: list[float]
    sa50: list[float]
    sa75: list[float]


def average_protocol_scores(protocol: Protocol, images: Sequence[Sequence[StepScores]]) -> ProtocolScores:
    """images: the steps of each; at least one object in all. Images without objects say nothing."""
    columns = list(zip(*(image for image in images if image[0].ious), strict=True))
    return ProtocolScores(
        protocol,
        objects=sum(len(image[0].ious) for image in images),
        iou=[float(np.mean([value for each in column for value in each.ious])) for column in columns],
        msa=[
            float(np.mean([mean_segmentation_accuracy(each.matched) for each in column]))
            for column in columns
        ],
        sa50=[float(np.mean([each.matched[AT_50].accuracy for each in column])) for column in columns],
        sa75=[float(np.mean([each.matched[AT_75].accuracy for each in column])) for column in columns],
    )
