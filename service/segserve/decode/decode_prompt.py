"""One prompt through the mask decoder: encode the prompt, run the graph, choose masks, upscale them."""

import numpy as np

from segserve.decode.mask_choice import choose_masks
from segserve.decode.prompt_encoding import (
    encode_tokens,
    logits_geometry,
    mask_to_logits,
    select_mask_tokens,
)
from segserve.encode.prepared_cache import PreparedImage
from segserve.masks.upscale import upscale_mask
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
) -> list[Candidate]:
    """Return the masks for one prompt, all computed in the calling thread. Crops are in pixels of the image.

    multimask: three candidates (True), one mask (False), or what suits the prompt (None).
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
    chosen = choose_masks(logits, scores, tokens, manifest.kind, select)
    with timings.stage("postprocess"):
        geometry = logits_geometry(manifest, image.size)
        return [
            Candidate(
                crop=upscale_mask(logits[i], geometry, manifest.mask_threshold),
                score=float(scores[i]),
                logits=clamp_logits(logits[i]) if manifest.kind is ModelKind.SAM2 else logits[i],
            )
            for i in chosen
        ]


def clamp_logits(logits: Float32) -> Float32:
    return np.clip(logits, -SAM2_LOGIT_LIMIT, SAM2_LOGIT_LIMIT)
