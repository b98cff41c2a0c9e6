"""Prompt encoding: prompts in pixels of the original image become the inputs of the decoder's graph."""

import numpy as np
from PIL import Image

from segserve.masks.clean import Marks
from segserve.masks.upscale import LogitsGeometry
from segserve.models.manifest import ModelKind, PromptableManifest
from segserve.types import Bool, Float32, Prompt, Select, Size

# Point labels of SAM's prompt encoder, beside 1 (positive) and 0 (negative).
PADDING_LABEL = -1
BOX_FIRST_LABEL = 2
BOX_SECOND_LABEL = 3
# Mask tokens of SAM's decoder: the single mask, and the three candidates of different extent (multimask output).
SINGLE_TOKEN = 0
CANDIDATE_TOKENS = [1, 2, 3]
# The probability that a pixel of a binary mask is wrong, as micro-sam assumes.
MASK_EPSILON = 1e-3
# The inverse sigmoid of 1 - MASK_EPSILON, and of MASK_EPSILON.
OBJECT_LOGIT = float(np.log((1 - MASK_EPSILON) / MASK_EPSILON))
BACKGROUND_LOGIT = -OBJECT_LOGIT


def logits_geometry(manifest: PromptableManifest, size: Size) -> LogitsGeometry:
    """Return how low-res logits of this model lie on an image of this size."""
    if manifest.preprocess.resize == "pad":
        return LogitsGeometry.padded(size, manifest.preprocess.input_size, manifest.dims.low)
    return LogitsGeometry.stretched(size, manifest.dims.low)


def scale_points(points: Float32, manifest: PromptableManifest, size: Size) -> Float32:
    """Scale points [N, 2] (x, y) of an image of this size to pixels of the model's input."""
    edge = manifest.preprocess.input_size
    if manifest.preprocess.resize == "stretch":
        scale = np.array([edge / size.width, edge / size.height])
    else:  # by the rounded size of the resized image, as ResizeLongestSide.apply_coords does
        valid = logits_geometry(manifest, size).valid
        scale = np.array([valid.width / size.width, valid.height / size.height])
    scaled: Float32 = (points * scale).astype(np.float32)
    return scaled


def encode_tokens(prompt: Prompt, manifest: PromptableManifest, size: Size) -> tuple[Float32, Float32]:
    """Return the prompt's coordinates [N, 2] in input pixels and its labels [N].

    Order and padding are those of the model's own predictor: SAM pads points without a box; SAM 2 always pads, and
    puts the box first.
    """
    points = [(prompt.points, prompt.labels)]
    if prompt.box is not None:
        box = prompt.box
        corners = np.array([[box.x0, box.y0], [box.x1, box.y1]], np.float32)
        position = 0 if manifest.kind is ModelKind.SAM2 else 1
        points.insert(position, (corners, np.array([BOX_FIRST_LABEL, BOX_SECOND_LABEL])))
    coords = scale_points(np.concatenate([p for p, _ in points]), manifest, size)
    labels = np.concatenate([label for _, label in points]).astype(np.float32)
    if len(coords) and (prompt.box is None or manifest.kind is ModelKind.SAM2):
        coords = np.concatenate([coords, np.zeros((1, 2), np.float32)])
        labels = np.append(labels, np.float32(PADDING_LABEL))
    return coords, labels


def find_marks(prompt: Prompt, prior: Float32 | None, manifest: PromptableManifest, size: Size) -> Marks:
    """Return what the prompt says about the object, in pixels of the low-res logits.

    prior: low-res logits [low, low] of an earlier mask.
    """
    scale = manifest.dims.low / manifest.preprocess.input_size
    points = (scale_points(prompt.points, manifest, size) + np.float32(0.5)) * np.float32(scale)
    box = None
    if prompt.box is not None:
        corners = np.array([[prompt.box.x0, prompt.box.y0], [prompt.box.x1, prompt.box.y1]], np.float32)
        (x0, y0), (x1, y1) = (scale_points(corners, manifest, size) * scale).tolist()
        box = (x0, y0, x1, y1)
    return Marks(
        points[prompt.labels == 1],
        points[prompt.labels == 0],
        box,
        None if prior is None else prior > manifest.mask_threshold,
    )


def needs_candidates(prompt: Prompt, multimask: bool | None) -> bool:
    """Return whether three candidates are needed, or one mask.

    multimask: the caller's choice. None means three for a single positive point with nothing else, whose object may be
    a part or the whole; one otherwise. That is what SAM's authors recommend.
    """
    if multimask is not None:
        return multimask
    only_points = (
        prompt.box is None and prompt.mask is None and prompt.logits is None and prompt.mask_id is None
    )
    return only_points and len(prompt.labels) == 1 and prompt.labels[0] == 1


def select_mask_tokens(prompt: Prompt, kind: ModelKind, multimask: bool | None, select: Select) -> list[int]:
    """Return the mask tokens that the decoder must compute, of its four."""
    if select is Select.FIRST:
        return CANDIDATE_TOKENS[:1]
    if needs_candidates(prompt, multimask):
        return CANDIDATE_TOKENS
    # If the single mask is unstable, SAM 2 answers with the best candidate instead, so it needs them too.
    return [SINGLE_TOKEN, *CANDIDATE_TOKENS] if kind is ModelKind.SAM2 else [SINGLE_TOKEN]


def mask_to_logits(mask: Bool, manifest: PromptableManifest) -> Float32:
    """Return a binary mask [H, W] as the low-res logits [low, low] of a prior, as micro-sam makes them.

    The values are OBJECT_LOGIT and BACKGROUND_LOGIT, resized like the image (bilinear). The padding is background.
    """
    low, edge = manifest.dims.low, manifest.preprocess.input_size
    height, width = low, low
    if manifest.preprocess.resize == "pad":
        valid = logits_geometry(manifest, Size(*mask.shape)).valid
        height, width = (max(1, round(side * low / edge)) for side in (valid.height, valid.width))
    values = Image.fromarray(np.where(mask, np.float32(OBJECT_LOGIT), np.float32(BACKGROUND_LOGIT)))
    logits = np.full((low, low), BACKGROUND_LOGIT, np.float32)
    logits[:height, :width] = np.asarray(values.resize((width, height), Image.Resampling.BILINEAR))
    return logits
