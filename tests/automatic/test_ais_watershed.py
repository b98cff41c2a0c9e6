"""AIS gives micro-sam's labels, one for one, for the same maps."""

import numpy as np
import pytest

from segserve.automatic.ais_map_cache import pack_maps, unpack_maps
from segserve.automatic.ais_watershed import resize_maps, segment_by_watershed
from segserve.automatic.parameters import AisParams, resolve_ais_params
from segserve.models.bundle import Bundle
from segserve.models.manifest import AisEntry, PromptableManifest
from segserve.models.registry import BUILT_IN_MODELS
from segserve.types import Size
from tests.automatic.ais_cases import FROZEN, PARAMS, adjusted_rand, all_maps, drawn_maps
from tests.rounding import bilinear, bilinear_error

MAPS = all_maps()
STARTER = Bundle(BUILT_IN_MODELS / "starter").expect(PromptableManifest)


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("maps", MAPS)
def test_labels_are_those_that_micro_sam_gave(maps: str, params: str) -> None:
    with np.load(FROZEN) as frozen:
        theirs = frozen[f"{maps}: {params}"]
    ours = segment_by_watershed(MAPS[maps], AisParams(**PARAMS[params]))
    assert ours.max() == theirs.max()
    # Another CPU may round differently and move single pixels; `test_ais_watershed_oracle` allows no difference.
    assert adjusted_rand(ours, theirs) >= 0.999


def test_the_stored_labels_differ_between_parameters() -> None:
    with np.load(FROZEN) as frozen:
        counts = {params: int(frozen[f"many small ones: {params}"].max()) for params in PARAMS}
    assert len(set(counts.values())) >= 5
    assert counts["no foreground"] == 0


def test_ids_run_from_one_without_gaps() -> None:
    labels = segment_by_watershed(MAPS["many small ones"], AisParams(min_size=150))
    ids, areas = np.unique(labels, return_counts=True)
    assert ids.tolist() == list(range(len(ids)))
    assert areas[1:].min() >= 150


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2)])
def test_the_smallest_images_are_segmented(shape: tuple[int, int]) -> None:
    maps = np.stack([np.full(shape, v) for v in (0.9, 0.1, 0.1)]).astype(np.float32)
    assert (segment_by_watershed(maps, AisParams()) == 1).all()


@pytest.mark.parametrize("size", [Size(300, 410), Size(97, 33), Size(1024, 700)])
def test_maps_are_resized_to_the_image_as_by_torch_em(size: Size) -> None:
    maps = np.random.default_rng(0).random((3, 256, 256), dtype=np.float32)
    square = STARTER.preprocess.input_size
    scale = square / max(size.height, size.width)
    height, width = int(size.height * scale + 0.5), int(size.width * scale + 0.5)
    for resized, each in zip(resize_maps(maps, STARTER, size), maps, strict=True):
        up = bilinear(each, square, square)[:height, :width]
        exact = bilinear(up, size.height, size.width)
        assert np.abs(resized - exact).max() <= bilinear_error(each) + bilinear_error(up)


def test_packed_maps_give_the_same_segmentation() -> None:
    maps = drawn_maps(60, 15, 4)
    assert np.abs(unpack_maps(pack_maps(maps)) - maps).max() <= 0.5 / 65_535 + 1e-7
    ours, kept = (
        segment_by_watershed(maps, AisParams()),
        segment_by_watershed(unpack_maps(pack_maps(maps)), AisParams()),
    )
    assert adjusted_rand(ours, kept) >= 0.999


def test_a_request_overrides_the_model_and_the_model_the_defaults() -> None:
    of_model = AisEntry(center_distance_threshold=0.3, min_size=50)
    manifest = STARTER.model_copy(update={"ais": of_model})
    assert resolve_ais_params(manifest, AisEntry(min_size=7)) == AisParams(
        center_distance_threshold=0.3, min_size=7
    )
    assert resolve_ais_params(STARTER.model_copy(update={"ais": None}), AisEntry()) == AisParams()
