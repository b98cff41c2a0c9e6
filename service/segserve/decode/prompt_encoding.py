"""Prompts in pixels of the original image -> what the decoder's graph reads."""

import numpy as np
from PIL import Image

from segserve.errors import BadInput
from segserve.masks.upscale import LogitsGeometry
from segserve.models.manifest import ModelKind, PromptableManifest
from segserve.types import Bool, Float32, Prompt, Select, Size

PADDING, BOX_FIRST, BOX_SECOND = -1, 2, 3  # point labels beside 0 and 1
SINGLE, CANDIDATES = 0, [1, 2, 3]  # mask tokens: the single mask, and the three of different extent
MASK_EPSILON = 1e-3  # a binary mask's probability of being wrong, as micro-sam assumes


def check_mask_size(mask: tuple[int, int], size: Size, field: str) -> None:
    """A binary mask is of the image's size. mask: height, width. Raises BadInput."""
    if mask != (size.height, size.width):
        raise BadInput(
            f"The mask is {mask[0]} x {mask[1]} (height x width).",
            field=f"{field}.size",
            remedy=f"Send a mask of the image's size, {size.height} x {size.width}.",
        )


def logits_geometry(manifest: PromptableManifest, size: Size) -> LogitsGeometry:
    """How low-res logits of this model lie over an image of this size."""
    if manifest.preprocess.resize == "pad":
        return LogitsGeometry.padded(size, manifest.preprocess.input_size, manifest.dims.low)
    return LogitsGeometry.stretched(size, manifest.dims.low)


def scale_points(points: Float32, manifest: PromptableManifest, size: Size) -> Float32:
    """Points [N, 2] of the original image in pixels of the model's input."""
    edge = manifest.preprocess.input_size
    if manifest.preprocess.resize == "stretch":
        scale = np.array([edge / size.width, edge / size.height])
    else:  # as ResizeLongestSide.apply_coords: by the rounded size that the image was resized to
        valid = logits_geometry(manifest, size).valid
        scale = np.array([valid.width / size.width, valid.height / size.height])
    scaled: Float32 = (points * scale).astype(np.float32)
    return scaled


def encode_tokens(prompt: Prompt, manifest: PromptableManifest, size: Size) -> tuple[Float32, Float32]:
    """Coordinates [N, 2] in input pixels and labels [N], in the order and with the padding that the model's
    own predictor uses: SAM pads points where no box is given, SAM 2 always, and puts the box first."""
    points = [(prompt.points, prompt.labels)]
    if prompt.box is not None:
        box = prompt.box
        corners = np.array([[box.x0, box.y0], [box.x1, box.y1]], np.float32)
        at = 0 if manifest.kind is ModelKind.SAM2 else 1
        points.insert(at, (corners, np.array([BOX_FIRST, BOX_SECOND])))
    coords = scale_points(np.concatenate([p for p, _ in points]), manifest, size)
    labels = np.concatenate([label for _, label in points]).astype(np.float32)
    if len(coords) and (prompt.box is None or manifest.kind is ModelKind.SAM2):
        coords = np.concatenate([coords, np.zeros((1, 2), np.float32)])
        labels = np.append(labels, np.float32(PADDING))
    return coords, labels


def wants_candidates(prompt: Prompt, multimask: bool | None) -> bool:
    """Three candidates or one? Unless told, three for a single positive point with nothing else, where the
    object's extent is open; one otherwise, as SAM's authors recommend."""
    if multimask is not None:
        return multimask
    alone = prompt.box is None and prompt.mask is None and prompt.logits is None and prompt.mask_id is None
    return alone and len(prompt.labels) == 1 and prompt.labels[0] == 1


def select_mask_tokens(prompt: Prompt, kind: ModelKind, multimask: bool | None, select: Select) -> list[int]:
    """Which of the decoder's four masks are needed."""
    if select is Select.FIRST:
        return CANDIDATES[:1]
    if wants_candidates(prompt, multimask):
        return CANDIDATES
    # SAM 2 answers with the best candidate where the single mask is unstable, so it needs them at hand.
    return [SINGLE, *CANDIDATES] if kind is ModelKind.SAM2 else [SINGLE]


def mask_to_logits(mask: Bool, manifest: PromptableManifest) -> Float32:
    """A binary mask [H, W] as the low-res logits of a prior, as micro-sam makes them: inverse sigmoid of
    1 - 1e-3 and 1e-3, resized like the image, the padding counted as background."""
    inside = float(np.log((1 - MASK_EPSILON) / MASK_EPSILON))
    low = manifest.dims.low
    valid = (
        logits_geometry(manifest, Size(*mask.shape)).valid if manifest.preprocess.resize == "pad" else None
    )
    edge = manifest.preprocess.input_size
    height, width = (
        (low, low)
        if valid is None
        else (max(1, round(valid.height * low / edge)), max(1, round(valid.width * low / edge)))
    )
    picture = Image.fromarray(np.where(mask, np.float32(inside), np.float32(-inside)))
    logits = np.full((low, low), -inside, np.float32)
    logits[:height, :width] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return logits
