"""The 24 settings, and what prompts are made of."""

import numpy as np

from segserve.evaluate.volume_protocol import (
    MaskChoice,
    PromptKind,
    PropagationDirection,
    SliceChoice,
    choose_settings,
    largest_region,
)


def test_there_are_24_settings_with_names_of_their_own() -> None:
    settings = choose_settings()
    assert len({setting.name for setting in settings}) == len(settings) == 24
    assert "box-largest-both-first" in {setting.name for setting in settings}


def test_settings_can_be_left_out() -> None:
    settings = choose_settings(
        [PromptKind.BOX, PromptKind.BOX],
        [SliceChoice.CENTRE],
        [PropagationDirection.BOTH],
        [MaskChoice.FIRST],
    )
    assert [setting.name for setting in settings] == ["box-centre-both-first"]


def test_a_prompt_is_of_the_largest_part_and_corners_connect() -> None:
    mask = np.zeros((10, 12), np.bool_)
    mask[0:2, 0:3] = True
    mask[4:6, 4:6] = mask[6:8, 6:8] = True
    expected = mask.copy()
    expected[0:2] = False
    assert np.array_equal(largest_region(mask), expected)
    assert largest_region(expected) is expected
