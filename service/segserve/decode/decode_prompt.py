"""One prompt through the mask decoder: encode the prompt, run the graph, choose masks, clean and upscale them."""

import numpy as np

from segserve.decode.mask_choice import DecodedMask, choose_masks
from segserve.decode.prompt_encoding import (
    CANDIDATE_TOKENS,
    SINGLE_TOKEN,
    encode_tokens,
    find_marks,
    logits_geometry,
    mask_to_logits,
    select_mask_tokens,
)
from segserve.encode.prepared_cache import PreparedImage
from segserve.masks.upscale import LogitsGeometry, upscale_mask
from segserve.models.manifest import ModelKind, PromptableManifest
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
        is the one of the highest `DecodedMask.value`. Where None would give one mask and it suits the prompt badly, the
        three candidates are decoded too, and the best of the four is the answer.
    """
    manifest = model.manifest
    prepared = image.prepared
    prior = prompt.logits if prompt.mask is None else mask_to_logits(prompt.mask, manifest)
    if prior is not None:
        with timings.stage("prepare"):
            prepared = model.prepare(image.embedding, prior, image.prepared)
    coords, labels = encode_tokens(prompt, manifest, image.size)
    geometry = logits_geometry(manifest, image.size)
    marks = None if raw else find_marks(prompt, prior, manifest, image.size)

    def decode(tokens: list[int]) -> tuple[list[DecodedMask], Float32]:
        with timings.stage("decode"):
            logits, scores = model.decode(prepared, coords, labels, tokens)
        masks = [
            DecodedMask(low_res, float(scores[token]), token, geometry, manifest, marks)
            for low_res, token in zip(logits, tokens, strict=True)
        ]
        return masks, scores

    masks, scores = decode(select_mask_tokens(prompt, manifest.kind, multimask, select))
    with timings.stage("postprocess"):
        needs_more = (
            multimask is None
            and select is Select.BEST
            and [mask.token for mask in masks] == [SINGLE_TOKEN]
            and set(CANDIDATE_TOKENS) < set(manifest.dims.masks)
            and masks[0].may_be_beaten(float(scores[CANDIDATE_TOKENS].max()))
        )
    if needs_more:
        masks += decode(CANDIDATE_TOKENS)[0]
    with timings.stage("postprocess"):
        chosen = choose_masks(masks, manifest.kind, select)
        return [finish_mask(mask, geometry, manifest, raw=raw) for mask in chosen]


def finish_mask(
    mask: DecodedMask, geometry: LogitsGeometry, manifest: PromptableManifest, *, raw: bool
) -> Candidate:
    """Return the candidate of a mask, cleaned and upscaled to the image.

    raw: the score is the model's own, which predicts an IoU by a regression and may be a little beyond 0 and 1.
    """
    cleaned = mask.cleaned
    return Candidate(
        crop=upscale_mask(cleaned.logits, geometry, manifest.mask_threshold),
        logits=clamp_logits(cleaned.logits) if manifest.kind is ModelKind.SAM2 else cleaned.logits,
        score=mask.score if raw else min(max(mask.score, 0.0), 1.0),
        removed_parts=cleaned.removed_parts,
        filled_holes=cleaned.filled_holes,
    )


def clamp_logits(logits: Float32) -> Float32:
    return np.clip(logits, -SAM2_LOGIT_LIMIT, SAM2_LOGIT_LIMIT)
