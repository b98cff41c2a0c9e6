"""Examples: the objects that a search starts from, and what is known of them together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segserve.decode.object_descriptor import measure_descriptor, normalize_cells
from segserve.decode.prompt_encoding import logits_geometry, mask_to_logits
from segserve.encode.prepared_cache import PreparedImage
from segserve.masks import crop as crops
from segserve.models.manifest import PromptableManifest
from segserve.similar.click_points import measure_pixel, smooth_response
from segserve.similar.likeness import LikenessScale, fit_likeness
from segserve.types import Bool, Crop, Float32, Region

# The response at an example is taken to be at least this, so that one bad example does not make everything similar.
MIN_PEAK_RESPONSE = 0.3


@dataclass(frozen=True)
class ExampleSet:
    """The examples of a search, measured.

    descriptors: [C] each. likenesses: of each by the scale that the others give; empty for one example.
    background: [C], the mean of the cells of the regions that they are on. scale: fitted to all of them.
    peak_response: mean of the highest smoothed likeness on each of them.
    min_area, max_area, diameter: in pixels of their image; the diameter is the median of circles of their areas.
    """

    descriptors: list[Float32]
    likenesses: list[float]
    background: Float32
    scale: LikenessScale
    peak_response: float
    min_area: int
    max_area: int
    diameter: float


@dataclass(frozen=True)
class ExampleRegion:
    """An encoded region of an image with examples. masks: in pixels of the region."""

    image: PreparedImage
    masks: list[Crop]


def median_diameter(areas: Sequence[int]) -> float:
    """Return the median diameter of circles with these areas, in pixels."""
    return 2 * float(np.sqrt(np.median(areas) / np.pi))


def cut_to_region(mask: Crop, region: Region | None) -> Crop:
    """Return a mask of the image in pixels of a region, without what lies outside of it."""
    if region is None:
        return mask
    height, width = mask.pixels.shape
    x0, y0 = max(mask.x, region.x), max(mask.y, region.y)
    x1, y1 = min(mask.x + width, region.x + region.width), min(mask.y + height, region.y + region.height)
    if x0 >= x1 or y0 >= y1:
        return crops.empty_crop(region.size)
    pixels = mask.pixels[y0 - mask.y : y1 - mask.y, x0 - mask.x : x1 - mask.x]
    return crops.trim_crop(Crop(pixels, x0 - region.x, y0 - region.y, region.size))


def to_low(mask: Crop, manifest: PromptableManifest) -> Bool:
    """Return a mask of a region as low-res pixels [low, low], at least one of them if the mask has any."""
    logits = mask_to_logits(crops.to_mask(mask), manifest)
    # The highest logits of a mask much smaller than a low-res pixel are below 0 too.
    return np.asarray(logits > min(0.0, float(logits.max()) - 1e-6) if mask.pixels.any() else logits > 0)


def describe_examples(regions: list[ExampleRegion], manifest: PromptableManifest) -> ExampleSet | None:
    """Return what is known of the examples; None if nothing tells them from their images. Blocks."""
    areas = [crops.area(mask) for region in regions for mask in region.masks]
    lows, directions, descriptors = [], [], []
    for region in regions:
        embedding = region.image.embedding["embedding"]
        geometry = logits_geometry(manifest, region.image.size)
        cell = geometry.low // embedding.shape[1]
        rows, columns = geometry.valid_low
        directions.append(normalize_cells(embedding[:, : -(-rows // cell), : -(-columns // cell)]))
        lows.append([to_low(mask, manifest) for mask in region.masks])
        descriptors += [measure_descriptor(embedding, low) for low in lows[-1]]
    background = np.mean([cells.mean(axis=(1, 2)) for cells in directions], axis=0)
    scale = fit_likeness(background, descriptors)
    if scale is None:
        return None
    diameter, peaks = median_diameter(areas), []
    for region, cells, masks in zip(regions, directions, lows, strict=True):
        geometry = logits_geometry(manifest, region.image.size)
        cell = geometry.low // region.image.embedding["embedding"].shape[1]
        shape = geometry.valid_low
        low_diameter = diameter / float(np.sqrt(measure_pixel(geometry).prod()))
        response = smooth_response(scale.score_cells(cells), cell, shape, low_diameter)
        peaks += [float(response[low[: shape[0], : shape[1]]].max(initial=-np.inf)) for low in masks]
    return ExampleSet(
        descriptors,
        rate_each_by_others(background, descriptors),
        background,
        scale,
        max(MIN_PEAK_RESPONSE, float(np.mean(peaks))),
        min(areas),
        max(areas),
        diameter,
    )


def rate_each_by_others(background: Float32, descriptors: list[Float32]) -> list[float]:
    """Return the likeness of each example by the scale of the others; empty for one example."""
    likenesses = []
    for index, descriptor in enumerate(descriptors if len(descriptors) > 1 else []):
        scale = fit_likeness(background, descriptors[:index] + descriptors[index + 1 :])
        likenesses.append(0.0 if scale is None else scale.score(descriptor))
    return likenesses
