"""BioImage.IO's processing steps become fields of the manifest that compute the same, or are refused by name."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bioimageio.core")

from bioimageio.core.digest_spec import create_sample_for_model
from bioimageio.core.proc_setup import setup_pre_and_postprocessing
from bioimageio.spec.model import v0_5 as spec

from segserve.errors import BadInput
from segserve.models.importers.bioimageio import read_description
from segserve.models.importers.bioimageio_steps import build_input
from segserve.models.semantic_manifest import SemanticInput
from segserve.semantic.preprocess import prepare_input
from tests.models.importers.bioimageio_packages import (
    PYDANTIC_SKIP,
    SIZE,
    STANDARDISED,
    make_image,
    write_package,
)

pytestmark = PYDANTIC_SKIP


LINEAR = spec.ScaleLinearDescr(kwargs=spec.ScaleLinearKwargs(gain=1 / 255, offset=-0.5))
RANGE = spec.ScaleRangeDescr(
    kwargs=spec.ScaleRangeKwargs(axes=["y", "x"], min_percentile=1, max_percentile=99.8)
)
FIXED = spec.FixedZeroMeanUnitVarianceDescr(
    kwargs=spec.FixedZeroMeanUnitVarianceAlongAxisKwargs(
        axis="channel", mean=[100, 110, 120], std=[30, 40, 50]
    )
)
TOGETHER = spec.ZeroMeanUnitVarianceDescr(kwargs=spec.ZeroMeanUnitVarianceKwargs(axes=["channel", "y", "x"]))
FLOAT = spec.EnsureDtypeDescr(kwargs=spec.EnsureDtypeKwargs(dtype="float32"))
TO_ONE = spec.ClipDescr(kwargs=spec.ClipKwargs(min=0, max=1))
STEPS = {
    "nothing": [],
    "linear": [FLOAT, LINEAR],
    "linear twice": [LINEAR, LINEAR],
    "fixed by channel": [FIXED],
    "percentiles": [RANGE],
    "percentiles, clipped": [RANGE, TO_ONE],
    "percentiles, then linear": [RANGE, LINEAR],
    "standardised together": [TOGETHER],
    "standardised by channel": [STANDARDISED],
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_compute_the_same_as_bioimageio(tmp_path: Path, name: str) -> None:
    """bioimageio.core's own operators on the package's test image are the reference."""
    write_package(tmp_path, preprocessing=STEPS[name], channels=3, preprocess=lambda image: image)
    description = read_description(tmp_path)
    sample = create_sample_for_model(description, inputs={"image": make_image(3)})
    before, _ = setup_pre_and_postprocessing(description, dataset_for_initial_statistics=[sample])
    for step in before:
        step(sample)
    expected = np.asarray(sample.members["image"].data)[0]
    options = SemanticInput.model_validate(build_input(STEPS[name], 3, 255))
    image = np.ascontiguousarray(make_image(3)[0].transpose(1, 2, 0)).astype(np.uint8)
    features = prepare_input(image, options).read_tile(0, 0, SIZE, SIZE)
    np.testing.assert_allclose(features, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_the_test_image_shows_the_scale_of_values() -> None:
    assert build_input([], 1, 1.0)["normalise"]["white"] == 1
    assert build_input([], 1, 255.0)["normalise"]["white"] == 255
    with pytest.raises(BadInput, match="up to 4095 as they are"):
        build_input([], 1, 4095.0)
    assert build_input([RANGE], 1, 4095.0)["normalise"]["method"] == "percentile"


REFUSED_STEPS = {
    "a statistic after another": [RANGE, STANDARDISED],
    "a statistic after a scale": [LINEAR, RANGE],
    "rounding": [LINEAR, spec.EnsureDtypeDescr(kwargs=spec.EnsureDtypeKwargs(dtype="uint8"))],
    "clipping what is not percentiles": [LINEAR, TO_ONE],
    "a threshold": [spec.BinarizeDescr(kwargs=spec.BinarizeKwargs(threshold=3))],
    "along one axis": [spec.ZeroMeanUnitVarianceDescr(kwargs=spec.ZeroMeanUnitVarianceKwargs(axes=["x"]))],
}


@pytest.mark.parametrize("name", REFUSED_STEPS)
def test_unsupported_steps_are_refused_by_name(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be done here") as caught:
        build_input(REFUSED_STEPS[name], 1, 255)
    assert REFUSED_STEPS[name][-1].id in caught.value.message
    assert "as onnx" in caught.value.remedy
