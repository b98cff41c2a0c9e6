"""The same slices, merged by micro-sam itself. `test_merge_slices` runs without micro-sam."""

import inspect
from typing import Any

import numpy as np
import pytest

pytest.importorskip("micro_sam", reason="micro-sam is missing: make test-microsam has an environment with it")

from micro_sam.multi_dimensional_segmentation import merge_instance_segmentation_3d

from segserve.automatic.merge_slices import VolumeParams, merge_slices, number_objects
from tests.automatic.drawn_slices import canonical, drawn_slices

PARAMS: list[dict[str, Any]] = [
    {},
    {"gap_closing": 1},
    {"gap_closing": 2},
    {"min_z_extent": 3},
    {"gap_closing": 1, "min_z_extent": 2},
]


@pytest.mark.parametrize("params", PARAMS, ids=str)
@pytest.mark.parametrize("count", [5, 40, 120])
def test_objects_are_micro_sams(count: int, params: dict[str, Any]) -> None:
    slices = drawn_slices(count, seed=count)
    number_objects(slices)
    theirs = merge_instance_segmentation_3d(slices, verbose=False, **params)
    merge_slices(slices, VolumeParams(**params))
    assert np.array_equal(canonical(slices), canonical(theirs))


def test_defaults_are_micro_sams() -> None:
    theirs = inspect.signature(merge_instance_segmentation_3d).parameters
    ours = {"min_size_share": 0, "min_contrast": 0}  # micro-sam has none of these; 0 removes nothing
    for name, value in vars(VolumeParams()).items():
        assert (ours[name] if name in ours else theirs[name].default) == value
