"""What a slice shows of an object: contrast to its rim."""

import numpy as np
import pytest

from segserve.decode.object_descriptor import measure_descriptor
from segserve.masks import crop
from segserve.projection.object_evidence import (
    MAX_MEASURED_PX,
    ObjectEvidence,
    keeps_contrast,
    measure_contrast,
    measure_object,
)
from segserve.types import Bool, Candidate


def disc(height: int, width: int, x: float, y: float, radius: float) -> Bool:
    rows, columns = np.mgrid[:height, :width]
    inside: Bool = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
    return inside


@pytest.mark.parametrize("radius", [3, 20, 150])
@pytest.mark.parametrize("at", [(200.0, 170.0), (5.0, 170.0), (399.0, 349.0)])
def test_contrast_is_the_mean_colour_inside_less_that_around(radius: float, at: tuple[float, float]) -> None:
    """Also for an object at the border, and one so large that not all of its pixels are measured."""
    mask = disc(350, 400, *at, radius)
    pixels = np.where(mask[:, :, None], np.uint8([200, 90, 10]), np.uint8([50, 100, 10]))
    assert measure_contrast(pixels, crop.from_mask(mask)).tolist() == [150, -10, 0]


def test_contrast_looks_near_the_object_only() -> None:
    mask = disc(400, 400, 200, 200, 40)
    pixels = np.full((400, 400, 3), 255, np.uint8)
    pixels[disc(400, 400, 200, 200, 70)] = 20
    pixels[mask] = 80
    assert 40 * 2 + 2 < 2 * 70 < MAX_MEASURED_PX * 2
    assert measure_contrast(pixels, crop.from_mask(mask)).tolist() == [60, 60, 60]


def test_no_rim_is_no_contrast() -> None:
    full = crop.from_mask(np.ones((50, 60), np.bool_))
    assert measure_contrast(np.full((50, 60, 3), 9, np.uint8), full).tolist() == [0, 0, 0]
    assert (
        measure_contrast(
            np.full((50, 60, 3), 9, np.uint8), crop.from_mask(np.zeros((50, 60), np.bool_))
        ).any()
        == 0
    )


def evidence(contrast: tuple[float, float, float], descriptor: tuple[float, ...] = (1, 0)) -> ObjectEvidence:
    return ObjectEvidence(np.array(contrast, np.float32), np.array(descriptor, np.float32))


def test_contrast_is_kept_in_the_same_direction() -> None:
    bright = evidence((100, 100, 100))
    assert keeps_contrast(bright, evidence((30, 30, 30)), 0.3)
    assert not keeps_contrast(bright, evidence((29, 29, 29)), 0.3)
    assert not keeps_contrast(bright, evidence((-100, -100, -100)), 0.3), "dark where it was bright"
    assert keeps_contrast(bright, evidence((-100, -100, -100)), 0), "the rule is off"
    assert keeps_contrast(evidence((-50, 0, 0)), evidence((-40, 30, 0)), 0.3), "a dark object"
    assert keeps_contrast(evidence((0, 0, 0)), evidence((-40, 30, 0)), 0.3), "it had none to lose"


def test_evidence_is_the_contrast_and_the_descriptor_of_the_mask() -> None:
    logits = np.where(disc(16, 16, 7.5, 7.5, 2), 3, -3).astype(np.float32)
    mask = Candidate(crop.from_mask(disc(64, 64, 30, 30, 9)), logits, 0.9)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    embedding = np.random.default_rng(1).normal(size=(8, 4, 4)).astype(np.float32)
    measured = measure_object(pixels, embedding, mask, 2)
    assert measured.contrast.tolist() == measure_contrast(pixels, mask.crop).tolist()
    assert measured.descriptor.tolist() == measure_descriptor(embedding, logits > 2).tolist()
