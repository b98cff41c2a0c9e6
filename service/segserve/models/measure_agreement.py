"""Measure how far a model's masks from a bf16 encoder agree with those from fp32.

Real pictures decide: on random embeddings bf16 looks much worse than on those of pictures. The pictures are squares of
512 pixels: a cup of coffee (Rachel Michetti, CC0), an astronaut (NASA, public domain), coins and stained tissue (no
known restrictions; the four as scikit-image brings them), and nuclei (those of `segserve demo`).
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from segserve.models.agreement import Agreement
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptKind
from segserve.models.onnx_pair_model import open_promptable_model
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Embedding, Float32, Precision, Runtime

PICTURES = Path(__file__).parent / "agreement_pictures"
# Clicks of each picture: a grid, and boxes of two sizes around each of the inner grid.
POINTS_PER_SIDE = 5
BOXES_PER_SIDE = 3
BOX_SHARES = (0.15, 0.4)  # of the picture's side
# Pixels of a low-res mask. One pixel of a smaller mask changes its IoU by more than the rule allows.
MIN_AREA = 30
CANDIDATES = [1, 2, 3]
SINGLE_MASK = [0]
PADDING_POINT, PADDING_LABEL = (0.0, 0.0), -1
BOX_LABELS = (2, 3)

# Coordinates [N, 2] in input pixels, labels [N], the mask tokens to decode.
TokenPrompt = tuple[Float32, Float32, list[int]]


def measure_agreement(
    bundle: Bundle, threads: int, on_picture: Callable[[str], None] = lambda name: None
) -> Agreement:
    """Encode every picture in fp32 and in bf16, decode the same prompts from both, and compare the masks.

    bundle: of a promptable model. threads: for encoders and decoder. on_picture: called with each picture's name.

    Needs OpenVINO, and a CPU that computes in bf16. Raises WrongModel, BrokenModel, MissingDependency.
    """
    fp32 = RuntimeOptions(threads=threads, runtime=Runtime.OPENVINO)
    exact = open_promptable_model(bundle, fp32, RuntimeOptions(threads=threads))
    rounded = open_promptable_model(bundle, replace(fp32, precision=Precision.BF16), None)
    ious, same = list[float](), list[bool]()
    for path in sorted(PICTURES.glob("*.jpg")):
        on_picture(path.stem)
        image = read_picture(path, exact)
        answers = [decode_all(exact, model.encode(image)) for model in (exact, rounded)]
        for (logits, scores), (other_logits, other_scores) in zip(*answers, strict=True):
            best = int(scores.argmax())
            mask = logits[best] > 0
            if np.count_nonzero(mask) >= MIN_AREA:
                ious.append(compare(mask, other_logits[best] > 0))
            if len(scores) > 1:
                same.append(best == int(other_scores.argmax()))
    return Agreement(
        masks=len(ious),
        iou_mean=round(float(np.mean(ious)), 5),
        iou_p05=round(float(np.percentile(ious, 5)), 5),
        iou_min=round(min(ious), 5),
        same_candidate=round(float(np.mean(same or [True])), 5),
    )


def read_picture(path: Path, model: PromptableModel) -> Float32:
    """Return a square picture as the model's input [1, 3, S, S]."""
    options = model.preprocess
    edge = options.input_size
    with Image.open(path) as picture:
        pixels = np.asarray(
            picture.convert("RGB").resize((edge, edge), Image.Resampling.BILINEAR), np.float32
        )
    if options.stretch_percentiles is not None:
        low, high = np.percentile(pixels, options.stretch_percentiles)
        pixels = np.clip((pixels - low) * (255 / max(high - low, 1)), 0, 255).astype(np.float32)
    normalised = (pixels - np.array(options.mean, np.float32)) / np.array(options.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None])


def decode_all(model: PromptableModel, embedding: Embedding) -> list[tuple[Float32, Float32]]:
    """Return logits [M, h, h] and scores [M] of each prompt."""
    prepared = model.prepare(embedding, None)
    answers = []
    for coords, labels, tokens in make_prompts(model.preprocess.input_size, model.manifest.prompts):
        logits, scores = model.decode(prepared, coords, labels, tokens)
        answers.append((logits, scores[tokens]))
    return answers


def make_prompts(edge: int, kinds: Collection[PromptKind]) -> list[TokenPrompt]:
    """Return the prompts, of these kinds, for one picture of `edge` input pixels a side."""
    prompts: list[TokenPrompt] = []
    for x, y in make_grid(POINTS_PER_SIDE, edge) if PromptKind.POINTS in kinds else ():
        prompts.append(
            (
                np.array([(x, y), PADDING_POINT], np.float32),
                np.array([1, PADDING_LABEL], np.float32),
                CANDIDATES,
            )
        )
    for x, y in make_grid(BOXES_PER_SIDE, edge) if PromptKind.BOXES in kinds else ():
        for share in BOX_SHARES:
            half = share * edge / 2
            corners = np.array([(x - half, y - half), (x + half, y + half)], np.float32).clip(0, edge)
            prompts.append((corners, np.array(BOX_LABELS, np.float32), SINGLE_MASK))
    return prompts


def make_grid(count: int, edge: int) -> list[tuple[float, float]]:
    """Return the centres of count x count equal parts of a square, as (x, y)."""
    centres = (np.arange(count) + 0.5) * edge / count
    return [(float(x), float(y)) for y in centres for x in centres]


def compare(mask: np.ndarray, other: np.ndarray) -> float:
    """Return the IoU of two masks [h, h]; of two empty ones 1."""
    union = int(np.count_nonzero(mask | other))
    return int(np.count_nonzero(mask & other)) / union if union else 1.0
