"""Prompts on large images: choose a region, move the prompt into its pixels, and move the mask back.

An object is decoded on the tile, with its halo, whose inner part holds the middle of the prompt, as micro-sam does. A
prompt that does not fit into the halo goes to a region twice as large and half as sharp, and so on. Positive points,
box and mask decide. Negative points outside of the region say nothing there and are left out.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.decode.prompt_encoding import BACKGROUND_LOGIT, logits_geometry
from segserve.errors import BadInput, TooLarge
from segserve.images.tiling import choose_window, region_contains
from segserve.masks.geometry import bounding_box
from segserve.masks.upscale import LogitsGeometry
from segserve.models.manifest import PromptableManifest
from segserve.types import Box, Candidate, Crop, Float32, Prompt, Region, Size

# Of a region: its mask takes one byte a pixel, its outline ten.
MAX_REGION_SIDE_PX = 8192


def choose_region(
    prompt: Prompt, logits_region: Region | None, size: Size, manifest: PromptableManifest, field: str
) -> Region:
    """Return the region of the image to decode the prompt on.

    logits_region: the region of the mask to refine. It is used again if it holds the prompt.
    Raises TooLarge, naming the field.
    """
    bounds = prompt_bounds(prompt, logits_region)
    if logits_region is not None and region_contains(logits_region, bounds):
        return logits_region
    region = choose_window(size, manifest.preprocess.input_size, bounds)
    if max(region.width, region.height) > MAX_REGION_SIDE_PX:
        raise TooLarge(
            f"The prompt spans {bounds.x1 - bounds.x0:.0f} x {bounds.y1 - bounds.y0:.0f} pixels of a large image.",
            field=field,
            remedy=f"A prompt may need up to {MAX_REGION_SIDE_PX} pixels a side: ask for a smaller part.",
        )
    return region


def prompt_bounds(prompt: Prompt, logits_region: Region | None) -> Box:
    """Return the bounding box of the prompt's positive points, box and mask.

    logits_region: included if it holds none of these, or if there are none.
    """
    points = prompt.points[prompt.labels == 1]
    if prompt.box is not None:
        points = np.concatenate([points, [[prompt.box.x0, prompt.box.y0], [prompt.box.x1, prompt.box.y1]]])
    if prompt.mask is not None:
        x0, y0, x1, y1 = bounding_box(prompt.mask)
        if x0 < x1:
            points = np.concatenate([points, [[x0, y0], [x1, y1]]])
    if logits_region is not None and (
        not len(points) or not region_contains(logits_region, bounds_of_points(points))
    ):
        far = [logits_region.x + logits_region.width, logits_region.y + logits_region.height]
        points = np.concatenate([points, [[logits_region.x, logits_region.y], far]])
    return bounds_of_points(points if len(points) else prompt.points)


def bounds_of_points(points: Float32) -> Box:
    """Return the bounding box of points [N, 2], N > 0."""
    return Box(*points.min(axis=0).tolist(), *points.max(axis=0).tolist())


def move_to_region(prompt: Prompt, region: Region) -> Prompt:
    """Return the prompt in pixels of the region, without points outside of it."""
    origin = np.array([region.x, region.y], np.float32)
    points = prompt.points - origin
    inside = ((points >= 0) & (points <= [region.width, region.height])).all(axis=1)
    box, mask = prompt.box, prompt.mask
    if box is not None:
        box = Box(box.x0 - region.x, box.y0 - region.y, box.x1 - region.x, box.y1 - region.y)
    if mask is not None:
        mask = mask[region.y : region.y + region.height, region.x : region.x + region.width].copy()
    return replace(prompt, points=points[inside], labels=prompt.labels[inside], box=box, mask=mask)


def move_to_image(candidate: Candidate, region: Region, size: Size) -> Candidate:
    """Return a mask of the region as the same mask of the image of this size."""
    crop = candidate.crop
    return replace(candidate, crop=Crop(crop.pixels, crop.x + region.x, crop.y + region.y, size))


def move_logits(logits: Float32, source: Region, target: Region, manifest: PromptableManifest) -> Float32:
    """Resample low-res logits [h, w] of region `source` to region `target` (bilinear).

    Outside of `source` they are background, as sure as `prompt_encoding.mask_to_logits` makes it.
    """
    if source == target:
        return logits
    source_scale, target_scale = (
        _measure_scale(logits_geometry(manifest, region.size), region) for region in (source, target)
    )
    # Output pixel (i, j) has its centre at ((i, j) + 0.5) / target_scale + target's corner, in pixels of the image.
    step = source_scale / target_scale
    corner = np.array([target.y - source.y, target.x - source.x])
    offset = 0.5 * step + corner * source_scale - 0.5
    moved: Float32 = ndimage.affine_transform(
        logits, step, offset, order=1, mode="constant", cval=BACKGROUND_LOGIT
    )
    return moved


def _measure_scale(geometry: LogitsGeometry, region: Region) -> NDArray[np.float64]:
    """Return how many low-res pixels lie on one pixel of the image, (down, across)."""
    valid_scale = np.array([geometry.valid.height / region.height, geometry.valid.width / region.width])
    return valid_scale * geometry.low / geometry.square


def format_region(region: Region) -> str:
    """Return the region as part of a mask_id, so that a refinement finds the region of its mask."""
    return f"{region.x}.{region.y}.{region.width}.{region.height}"


def parse_region(mask_id: str) -> Region | None:
    """Return the region that `format_region` wrote into a known mask_id; None for a mask of a whole image."""
    parts = mask_id.split("-")
    return Region(*(int(number) for number in parts[1].split("."))) if len(parts) == 3 else None


def logits_refusal(field: str) -> BadInput:
    """Return the error for logits without a mask_id on a large image."""
    return BadInput(
        "Logits do not say which part of a large image they are of.",
        field=field,
        remedy="Send the mask_id of the answer, or the mask itself as 'mask'.",
    )
