"""micro-sam itself, run on the same maps. `test_ais_watershed` compares with its stored labels."""

import numpy as np
import pytest

pytest.importorskip("micro_sam", reason="micro-sam is missing: make test-microsam has an environment with it")

from segserve.automatic.ais_watershed import segment_by_watershed
from segserve.automatic.parameters import AisParams
from tests.automatic.ais_cases import FROZEN, PARAMS, adjusted_rand, all_maps, by_micro_sam

MAPS = all_maps()


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("maps", MAPS)
def test_labels_are_micro_sams(maps: str, params: str) -> None:
    theirs = by_micro_sam(MAPS[maps], PARAMS[params])
    ours = segment_by_watershed(MAPS[maps], AisParams(**PARAMS[params]))
    assert np.array_equal(ours, theirs)
    with np.load(FROZEN) as frozen:
        assert adjusted_rand(theirs, frozen[f"{maps}: {params}"]) >= 0.999


def test_defaults_are_micro_sams() -> None:
    import inspect

    from micro_sam.instance_segmentation import InstanceSegmentationWithDecoder

    theirs = inspect.signature(InstanceSegmentationWithDecoder.generate).parameters
    for name, value in vars(AisParams()).items():
        assert theirs[name].default == value
