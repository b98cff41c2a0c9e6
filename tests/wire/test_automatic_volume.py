"""What an automatic volume job leaves out by default, and what with `raw`."""

from typing import Any

from segserve.automatic.merge_slices import VolumeParams
from segserve.wire.operations.automatic_volume import resolve_joining
from segserve.wire.schemas.propagation import VolumeParamsIn


def resolve(slices: int = 20, **params: Any) -> VolumeParams:
    return resolve_joining(VolumeParamsIn.model_validate({"engine": "automatic"} | params), slices)


def test_specks_single_slices_and_pale_objects_are_left_out_by_default() -> None:
    assert resolve() == VolumeParams(0.5, None, 2, 0.05, 0.3)
    assert resolve(min_z_extent=4, min_size_share=0, min_contrast=0) == VolumeParams(0.5, None, 4, 0, 0)


def test_a_volume_of_one_slice_keeps_its_objects() -> None:
    assert resolve(slices=1).min_z_extent == 1


def test_raw_leaves_out_only_what_the_request_names() -> None:
    assert resolve(raw=True) == VolumeParams()
    assert resolve(raw=True, min_contrast=0.2, min_z_extent=3) == VolumeParams(0.5, None, 3, 0, 0.2)
