"""Prompts on large images: which part is looked at, the prompt there, and the mask back in its place.

An object is looked for in the tile, with its halo, whose inner part holds the prompt's middle, as micro-sam does. A
prompt that the halo does not hold goes to tiles twice as large, seen half as sharply, and so on. Positive points, box
and mask decide; negative points outside of the tile say nothing there and are left out.
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from segserve.decode.prompt_encoding import MASK_EPSILON, logits_geometry
from segserve.errors import BadInput, TooLarge
from segserve.images.tiling import choose_window, region_contains
from segserve.masks.geometry import bounding_box
from segserve.masks.upscale import LogitsGeometry
from segserve.models.manifest import PromptableManifest
from segserve.types import Box, Candidate, Crop, Float32, Prompt, Region, Size

MAX_REGION_SIDE_PX = 8192  # of what is looked at at once: its mask takes a byte a pixel, its outline ten


def choose_region(
    prompt: Prompt, earlier: Region | None, size: Size, manifest: PromptableManifest, field: str
) -> Region:
    """earlier: where the mask was found that is to be refined; looked at again if that holds the prompt. Raises
    TooLarge naming the field."""
    asked = prompt_bounds(prompt, earlier)
    if earlier is not None and region_contains(earlier, asked):
        return earlier
    found = choose_window(size, manifest.preprocess.input_size, asked)
    if max(found.width, found.height) > MAX_REGION_SIDE_PX:
        raise TooLarge(
            f"The prompt spans {asked.x1 - asked.x0:.0f} x {asked.y1 - asked.y0:.0f} pixels of a large image.",
            field=field,
            remedy=f"Up to {MAX_REGION_SIDE_PX} pixels a side are looked at at once: ask for a smaller part.",
        )
    return found


def prompt_bounds(prompt: Prompt, earlier: Region | None) -> Box:
    """The box around all that is asked for. earlier: part of it where nothing but an earlier mask is in it."""
    points = prompt.points[prompt.labels == 1]
    if prompt.box is not None:
        points = np.concatenate([points, [[prompt.box.x0, prompt.box.y0], [prompt.box.x1, prompt.box.y1]]])
    if prompt.mask is not None:
        x0, y0, x1, y1 = bounding_box(prompt.mask)
        if x0 < x1:
            points = np.concatenate([points, [[x0, y0], [x1, y1]]])
    if earlier is not None and (not len(points) or not region_contains(earlier, bounds_of_points(points))):
        far = [earlier.x + earlier.width, earlier.y + earlier.height]
        points = np.concatenate([points, [[earlier.x, earlier.y], far]])
    return bounds_of_points(points if len(points) else prompt.points)


def bounds_of_points(points: Float32) -> Box:
    return Box(*points.min(axis=0).tolist(), *points.max(axis=0).tolist())


def move_to_region(prompt: Prompt, region: Region) -> Prompt:
    """The same prompt in pixels of the region."""
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
    """The same mask in the image."""
    crop = candidate.crop
    return replace(candidate, crop=Crop(crop.pixels, crop.x + region.x, crop.y + region.y, size))


def move_logits(logits: Float32, source: Region, target: Region, manifest: PromptableManifest) -> Float32:
    """Low-res logits [h, w] of one region as those of another; where the first did not look, as sure as
    `prompts.mask_to_logits` is that nothing is there."""
    if source == target:
        return logits
    there, here = (_scale(logits_geometry(manifest, region.size), region) for region in (source, target))
    # Output pixel (i, j) has its centre at ((j, i) + 0.5) / here + target's corner, in pixels of the image.
    step = there / here
    corner = np.array([target.y - source.y, target.x - source.x])
    offset = 0.5 * step + corner * there - 0.5
    nothing = -float(np.log((1 - MASK_EPSILON) / MASK_EPSILON))
    moved: Float32 = ndimage.affine_transform(logits, step, offset, order=1, mode="constant", cval=nothing)
    return moved


def _scale(where: LogitsGeometry, region: Region) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Low-res pixels a pixel of the image, (down, across)."""
    of_valid = np.array([where.valid.height / region.height, where.valid.width / region.width])
    return of_valid * where.low / where.square


def format_region(region: Region) -> str:
    """As part of a mask_id, so that whoever refines the mask looks where it was found."""
    return f"{region.x}.{region.y}.{region.width}.{region.height}"


def parse_region(mask_id: str) -> Region | None:
    """Of a mask_id that is known: one found with `format_region` in it; None for a whole image's."""
    parts = mask_id.split("-")
    return Region(*(int(number) for number in parts[1].split("."))) if len(parts) == 3 else None


def logits_refusal(field: str) -> BadInput:
    return BadInput(
        "Logits do not say which part of a large image they are of.",
        field=field,
        remedy="Send the mask_id of the answer, or the mask itself as 'mask'.",
    )
