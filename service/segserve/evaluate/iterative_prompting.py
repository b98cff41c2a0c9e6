"""Iterative prompting: scores of interactive models by micro-sam's protocol (`run_inference_with_iterative_prompting`).

Each object of the truth is prompted with a point or with its box. Then the prediction is corrected step by step from
its error.

    first prompt    the deepest pixel of the object (three candidates, the one with the best score counts), or its box
    each step       prompts again with all clicks so far, with the box if there was one, and, with `with_mask`, with
                    the low-res logits of the prediction before

micro-sam differs in chance alone: it does not seed the generator of its random clicks.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from segserve.evaluate.cli_choices import DEFAULT_STEPS, Correction, FirstPrompt
from segserve.evaluate.object_matching import (
    AT_50,
    AT_75,
    MatchCounts,
    match_label_maps,
    mean_segmentation_accuracy,
)
from segserve.masks import crop as crops
from segserve.masks import geometry, label_map
from segserve.masks.label_map import Labels
from segserve.masks.simulated_prompts import (
    BACKGROUND_MARGIN_PX,
    Click,
    click_both_errors,
    click_deepest_error,
)
from segserve.types import Bool, Box, Candidate, Crop, Float32, Prompt, Size

SEED = 0  # the same clicks in every run

Predict = Callable[[Prompt], Candidate]


@dataclass(frozen=True)
class PromptingProtocol:
    """How objects are prompted.

    steps: the number of predictions, the first one included.
    with_mask: each prediction's logits are the mask prompt of the next step.
    """

    start: FirstPrompt
    with_mask: bool
    steps: int = DEFAULT_STEPS
    correction: Correction = Correction.PAIRS

    @property
    def name(self) -> str:
        return f"{self.start}, {'with' if self.with_mask else 'without'} mask"


@dataclass(frozen=True)
class StepScores:
    """The scores of one image after one step.

    ious: the IoU of each object with its own prediction.
    matches: objects matched in the label map that all predictions make together, at each IoU threshold.
    """

    ious: list[float]
    matches: tuple[MatchCounts, ...]


@dataclass(frozen=True)
class PromptingResult:
    """One image: its truth [H, W] without small objects, the prediction [H, W] of the last step, the scores."""

    truth: Labels
    prediction: Labels
    steps: list[StepScores]


def prompt_objects(
    predict: Predict, truth: Labels, protocol: PromptingProtocol, threads: Executor, min_size: int = 1
) -> PromptingResult:
    """Prompt every object of a label map [H, W] that has at least `min_size` pixels.

    predict: answers a prompt. It is called in the threads of `threads`, one object in each. This function blocks.
    """
    size = Size(*truth.shape)
    objects = [each for each in label_map.to_crops(truth) if crops.area(each) >= min_size]
    kept_truth = label_map.from_crops(objects, size)

    def prompt_object(index: int) -> list[Crop]:
        return list(prompt_iteratively(predict, objects[index], protocol, index))

    predictions = list(threads.map(prompt_object, range(len(objects))))
    steps, prediction = [], kept_truth
    for step in range(protocol.steps):
        masks = [each[step] for each in predictions]
        prediction = label_map.from_crops(masks, size)
        ious = [crop_iou(*pair) for pair in zip(objects, masks, strict=True)]
        steps.append(StepScores(ious, match_label_maps(kept_truth, prediction)))
    return PromptingResult(kept_truth, prediction, steps)


def prompt_iteratively(
    predict: Predict, truth: Crop, protocol: PromptingProtocol, seed: int = 0
) -> Iterator[Crop]:
    """Yield the prediction of each step for one object, which is not empty."""
    rng = np.random.default_rng([SEED, seed])
    box: Box | None = None
    clicks: list[Click] = []
    if protocol.start is FirstPrompt.BOX:
        box = Box(*map(float, crops.bounding_box(truth)))
    else:
        clicks.append(shift_click((*geometry.deepest_pixel(truth.pixels), 1), truth.x, truth.y))
    logits: Float32 | None = None
    for step in range(protocol.steps):
        candidate = predict(build_prompt(clicks, box, logits))
        yield candidate.crop
        if step + 1 < protocol.steps:
            clicks += click_corrections(truth, candidate.crop, protocol.correction, rng)
            logits = candidate.logits if protocol.with_mask else None


def click_corrections(
    truth: Crop, prediction: Crop, correction: Correction, rng: np.random.Generator
) -> list[Click]:
    """Return the clicks that correct a prediction, in pixels of the image. The truth is not empty."""
    x, y, masks = cut_common_window(truth, prediction)
    if correction is Correction.DEEPEST:
        return [shift_click(click_deepest_error(*masks), x, y)]
    return [shift_click(click, x, y) for click in click_both_errors(*masks, rng)]


def build_prompt(clicks: list[Click], box: Box | None, logits: Float32 | None) -> Prompt:
    array = np.array(clicks, np.float32).reshape(-1, 3)
    return Prompt(array[:, :2], array[:, 2].astype(np.int64), box, logits=logits)


def cut_common_window(first: Crop, second: Crop) -> tuple[int, int, tuple[Bool, Bool]]:
    """Cut a window that holds both masks, and a margin for background clicks where the image has one.

    At least one of the masks is not empty. Returns (x, y, both masks [h, w] bool), with the window's corner (x, y).
    """
    size = first.size
    boxes = [crops.bounding_box(each) for each in (first, second) if crops.area(each)]
    x0, y0, x1, y1 = np.array(boxes).T
    top, left = max(int(y0.min()) - BACKGROUND_MARGIN_PX, 0), max(int(x0.min()) - BACKGROUND_MARGIN_PX, 0)
    bottom = min(int(y1.max()) + BACKGROUND_MARGIN_PX, size.height)
    right = min(int(x1.max()) + BACKGROUND_MARGIN_PX, size.width)

    def cut(crop: Crop) -> Bool:
        mask = np.zeros((bottom - top, right - left), np.bool_)
        height, width = crop.pixels.shape
        if height:
            mask[crop.y - top :, crop.x - left :][:height, :width] = crop.pixels
        return mask

    return left, top, (cut(crops.trim_crop(first)), cut(crops.trim_crop(second)))


def shift_click(click: Click, x: int, y: int) -> Click:
    """Return a click of a window at (x, y) in pixels of the image."""
    return click[0] + x, click[1] + y, click[2]


def crop_iou(truth: Crop, prediction: Crop) -> float:
    """Return the IoU of two masks of one image. The truth is not empty."""
    _, _, masks = cut_common_window(truth, prediction)
    return geometry.iou(*masks)


@dataclass(frozen=True)
class ProtocolScores:
    """The scores of a protocol over all images, one value for each step.

    iou: the mean over all objects of all images.
    msa, sa50, sa75: of the label maps that an image's predictions make together, the mean over the images. micro-sam
    reports them so.
    """

    protocol: PromptingProtocol
    objects: int
    iou: list[float]
    msa: list[float]
    sa50: list[float]
    sa75: list[float]


def average_protocol_scores(
    protocol: PromptingProtocol, images: Sequence[Sequence[StepScores]]
) -> ProtocolScores:
    """Average the scores of the images. images: the steps of each, with at least one object in all.

    Images without objects are left out.
    """
    columns = list(zip(*(steps for steps in images if steps[0].ious), strict=True))
    return ProtocolScores(
        protocol,
        objects=sum(len(steps[0].ious) for steps in images),
        iou=[float(np.mean([value for each in column for value in each.ious])) for column in columns],
        msa=[
            float(np.mean([mean_segmentation_accuracy(each.matches) for each in column]))
            for column in columns
        ],
        sa50=[float(np.mean([each.matches[AT_50].accuracy for each in column])) for column in columns],
        sa75=[float(np.mean([each.matches[AT_75].accuracy for each in column])) for column in columns],
    )
