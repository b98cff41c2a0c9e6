"""The parameters of tracking jobs: the defaults hold tracks, and `raw` is laptrack with its own default."""

import pytest
from pydantic import ValidationError

from segserve.wire.operations.tracking import resolve_linking
from segserve.wire.schemas.tracking import LinkingIn


def test_tracks_are_held_by_default() -> None:
    linking = resolve_linking(LinkingIn())
    assert not linking.raw
    assert (linking.gap_closing_max_frame_count, linking.min_daughter_frames, linking.min_track_frames) == (
        3,
        5,
        3,
    )


def test_raw_has_the_gap_of_laptrack_unless_another_is_named() -> None:
    assert resolve_linking(LinkingIn(raw=True)).gap_closing_max_frame_count == 2
    assert (
        resolve_linking(LinkingIn(raw=True, gap_closing_max_frame_count=5)).gap_closing_max_frame_count == 5
    )


@pytest.mark.parametrize(
    "field", ["size_weight", "likeness_weight", "min_daughter_frames", "min_track_frames"]
)
def test_negative_values_are_refused(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        LinkingIn.model_validate({field: -1})
