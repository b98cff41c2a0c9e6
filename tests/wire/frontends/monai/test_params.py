"""What the field `params` of MONAI Label's clients means."""

import pytest

from segserve.errors import BadInput
from segserve.wire.frontends.monai.params import (
    InferIn,
    choose_slice,
    cut_region,
    prompt_on_slice,
    prompts_in_volume,
)


def read(**fields: object) -> InferIn:
    return InferIn.model_validate(fields)


def test_points_count_on_their_own_slice() -> None:
    params = read(foreground=[[1, 2, 0], [3, 4, 5]], background=[[6, 7, 5]])
    assert prompt_on_slice(params, 5) == {"points": [[3, 4], [6, 7]], "labels": [1, 0]}
    flat = read(foreground=[[1, 2]])
    assert prompt_on_slice(flat, 5) == {"points": [[1, 2]], "labels": [1]}


def test_the_slice_is_named_or_that_of_the_last_point_or_in_the_middle_of_the_region() -> None:
    assert choose_slice(read(slice=3, foreground=[[1, 2, 5]]), 9) == 3
    assert choose_slice(read(slice=-1, foreground=[[1, 2, 4], [1, 2, 5]], background=[[1, 2, 6]]), 9) == 5
    assert choose_slice(read(background=[[1, 2, 6]]), 9) == 6
    assert choose_slice(read(roi=[1, 2, 3, 4, 2, 7]), 9) == 4
    assert choose_slice(read(foreground=[[1, 2]]), 1) == 0
    assert choose_slice(read(slice=47, roi=[1, 2, 3, 4, 2, 7]), 99) == 4, (
        "no prompt is on the slice that is named"
    )
    assert choose_slice(read(slice=6, roi=[1, 2, 3, 4, 2, 7]), 99) == 6
    for params in (
        read(foreground=[[1, 2]]),
        read(slice=9, foreground=[[1, 2]]),
        read(foreground=[[1, 2, -1]]),
    ):
        with pytest.raises(BadInput, match="slice"):
            choose_slice(params, 9)


def test_regions_have_two_forms() -> None:
    corners, pairs = read(roi=[10, 20, 30, 40]).region, read(roi=[30, 10, 20, 40, 7, 3]).region
    assert corners is not None
    assert pairs is not None
    assert corners.box == pairs.box == (10, 20, 30, 40)
    assert (corners.slices, pairs.slices) == (None, (3, 7))


def test_a_region_is_cut_to_the_volume() -> None:
    size = (40, 30, 9)
    cut = cut_region(read(roi=[-5, 60, 10, 20, -3, 99]), size).region
    assert cut is not None
    assert (cut.box, cut.slices) == ((0, 10, 40, 20), (0, 8))
    flat = cut_region(read(roi=[-5, 10, 60, 99]), size).region
    assert flat is not None
    assert (flat.box, flat.slices) == ((0, 10, 40, 30), None)
    assert cut_region(read(), size).region is None
    for roi in ([5, 5, 5, 9], [50, 5, 60, 9], [1, 5, 1, 5, 9, 12], [1, 5, 1, 5, -9, -2]):
        with pytest.raises(BadInput, match="outside of the volume"):
            cut_region(read(roi=roi), size)


def test_a_region_prompts_its_middle_slice_or_those_of_its_points() -> None:
    roi = [10, 30, 20, 40, 2, 6]
    box = (10, 20, 30, 40)
    [alone] = prompts_in_volume(read(roi=roi), 9)
    assert (alone["frame"], alone["box"]) == (4, box)
    [pointed] = prompts_in_volume(read(roi=roi, foreground=[[15, 25, 3]]), 9)
    assert (pointed["frame"], pointed["box"], pointed["points"]) == (3, box, [[15, 25]])
    outside = prompts_in_volume(read(roi=roi, foreground=[[15, 25, 8]]), 9)
    assert [(each["frame"], "box" in each) for each in outside] == [(4, True), (8, False)]


def test_points_without_a_slice_are_on_the_named_one() -> None:
    [prompt] = prompts_in_volume(read(foreground=[[1, 2]], background=[[3, 4]], slice=2), 9)
    assert prompt == {"frame": 2, "points": [[1, 2], [3, 4]], "labels": [1, 0]}
    with pytest.raises(BadInput, match="no point"):
        prompts_in_volume(read(), 9)


def test_a_window_of_no_width_is_none() -> None:
    assert read(window_center=40).window is None
    assert read(window_center="", window_width="").window is None
    assert read(window_center=40, window_width=400).window == (-160, 240)
