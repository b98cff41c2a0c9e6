"""Compare a model with its library's own predictor: the same clicks on the same image."""

from typing import Any

import numpy as np
import pytest

from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.models.importers.compare_arrays import error_over_std
from segserve.models.promptable_model import PromptableModel
from segserve.timing import Timings
from segserve.types import Box, Candidate, Prompt, Select, Size
from tests.models.networks import noise_image
from tests.rounding import CLICK_ERROR, ENCODER_ERROR, undecided

# On images of at least 230 x 150.
PROMPTS: dict[str, dict[str, Any]] = {
    "a point": {"points": [[100.0, 60.0]], "labels": [1]},
    "two points": {"points": [[100.0, 60.0], [20.5, 130.25]], "labels": [1, 0]},
    "many points": {"points": [[5.0 * i, 3.0 * i] for i in range(30)], "labels": [i % 2 for i in range(30)]},
    "a box": {"box": [30.0, 40.0, 200.0, 140.0]},
    "a point and a box": {"points": [[100.0, 60.0]], "labels": [0], "box": [30.0, 40.0, 200.0, 140.0]},
}


def encode_noise(model: PromptableModel, size: Size) -> PreparedImage:
    """Encode the noise image of this size. The predictor must get the same image."""
    embedding = model.encode(preprocess_image(noise_image(size.height, size.width), model.preprocess))
    return PreparedImage(size, embedding, model.prepare(embedding, None))


def check_batch(model: PromptableModel, size: Size, count: int) -> None:
    """Check that images encoded together equal each encoded alone."""
    images = [
        preprocess_image(noise_image(size.height - 7 * i, size.width), model.preprocess) for i in range(count)
    ]
    together = model.encode_batch(np.concatenate(images))
    for alone, candidates in zip(map(model.encode, images), together, strict=True):
        assert alone.keys() == candidates.keys()
        for name, array in alone.items():
            assert error_over_std(candidates[name], array) < 2 * ENCODER_ERROR
    assert model._graphs["encoder.onnx"].is_batched


def check_click(
    predictor: Any,
    model: PromptableModel,
    image: PreparedImage,
    name: str,
    *,
    multimask: bool,
    prior: bool = False,
) -> list[Candidate]:
    """Check that both return the same masks, logits and scores for one of PROMPTS. Returns the model's."""
    prompt_fields, low = PROMPTS[name], model.manifest.dims.low
    points = np.array(prompt_fields.get("points", np.zeros((0, 2))), np.float32)
    labels = np.array(prompt_fields.get("labels", []), np.int64)
    logits = np.random.default_rng(5).normal(size=(low, low)).astype(np.float32) if prior else None
    expected_masks = predictor.predict(
        points if len(points) else None,
        labels if len(points) else None,
        np.array(prompt_fields["box"]) if "box" in prompt_fields else None,
        None if logits is None else logits[None],
        multimask_output=multimask,
        return_logits=True,
    )
    prompt = Prompt(
        points, labels, Box(*prompt_fields["box"]) if "box" in prompt_fields else None, logits=logits
    )
    candidates = decode_prompt(model, image, prompt, multimask, Select.ALL, Timings(), raw=True)
    _, scores, _ = expected_masks
    assert len(candidates) == len(scores)
    for candidate, expected, score, expected_low in zip(candidates, *expected_masks, strict=True):
        mask = np.zeros((image.size.height, image.size.width), bool)
        crop = candidate.crop
        mask[crop.y : crop.y + crop.pixels.shape[0], crop.x : crop.x + crop.pixels.shape[1]] = crop.pixels
        either = undecided(expected, CLICK_ERROR * expected.std())
        assert (mask == (expected > 0))[~either].all()
        assert either.mean() < 1e-3
        assert error_over_std(candidate.logits, expected_low) < CLICK_ERROR
        assert candidate.score == pytest.approx(score, abs=CLICK_ERROR * float(np.abs(scores).max()))
    return candidates
