"""One prompt through the mask decoder: encode the prompt, run the graph, choose masks, clean and upscale them."""

import numpy as np

from segserve.decode.mask_choice import choose_masks, find_usable
from segserve.decode.prompt_encoding import (
    encode_tokens,
    find_marks,
    logits_geometry,
    mask_to_logits,
    select_mask_tokens,
)
from segserve.encode.prepared_cache import PreparedImage
from segserve.masks.clean import CleanedLogits, Marks, clean_logits
from segserve.masks.upscale import LogitsGeometry, upscale_mask
from segserve.models.manifest import ModelKind
from segserve.models.promptable_model import PromptableModel
from segserve.timing import Timings
from segserve.types import Candidate, Float32, Prompt, Select

# sam2 clamps the logits that it hands back for refinement to +-32.
SAM2_LOGIT_LIMIT = 32.0


def decode_prompt(
    model: PromptableModel,
    image: PreparedImage,
    prompt: Prompt,
    multimask: bool | None,
    select: Select,
    timings: Timings,
    *,
    raw: bool,
) -> list[Candidate]:
    """Return the masks for one prompt, all computed in the calling thread. Crops are in pixels of the image.

    multimask: three candidates (True), one mask (False), or what suits the prompt (None).
    raw: the model's own masks, the best by score alone. Otherwise masks are cleaned (`masks/clean.py`), and the best
        has pixels and is not the whole image, if another candidate is neither.
    """
    manifest = model.manifest
    prepared = image.prepared
    prior = prompt.logits if prompt.mask is None else mask_to_logits(prompt.mask, manifest)
    if prior is not None:
        with timings.stage("prepare"):
            prepared = model.prepare(image.embedding, prior, image.prepared)
    coords, labels = encode_tokens(prompt, manifest, image.size)
    tokens = select_mask_tokens(prompt, manifest.kind, multimask, select)
    with timings.stage("decode"):
        logits, scores = model.decode(prepared, coords, labels, tokens)
    scores = scores[tokens]
    geometry = logits_geometry(manifest, image.size)
    with timings.stage("postprocess"):
        masks = np.asarray(logits > manifest.mask_threshold)
        usable = np.ones(len(tokens), np.bool_) if raw else find_usable(masks, geometry)
        chosen = choose_masks(logits, scores, usable, tokens, manifest.kind, select)
        marks = None if raw else find_marks(prompt, prior, manifest, image.size)
        return [
            finish_mask(logits[i], float(scores[i]), marks, geometry, manifest.mask_threshold, manifest.kind)
            for i in chosen
        ]


def finish_mask(
    logits: Float32,
    score: float,
    marks: Marks | None,
    geometry: LogitsGeometry,
    threshold: float,
    kind: ModelKind,
) -> Candidate:
    """Return the candidate of low-res logits [h, w], cleaned where there are marks."""
    cleaned = CleanedLogits(logits, 0, 0) if marks is None else clean_logits(logits, threshold, marks)
    return Candidate(
        crop=upscale_mask(cleaned.logits, geometry, threshold),
        logits=clamp_logits(cleaned.logits) if kind is ModelKind.SAM2 else cleaned.logits,
        score=score,
        removed_parts=cleaned.removed_parts,
        filled_holes=cleaned.filled_holes,
    )


def clamp_logits(logits: Float32) -> Float32:
    return np.clip(logits, -SAM2_LOGIT_LIMIT, SAM2_LOGIT_LIMIT)
