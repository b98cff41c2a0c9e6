"""The 24 ways to prompt and follow an object through a volume that are compared here, after arXiv 2408.00756.

That is Dong et al., "Segment anything model 2: an application to 2D and 3D medical images".

    slice with the prompt   first, centre or largest slice of the object
    direction               front to end, or both ways from the slice with the prompt
    mask there              the first of the model's three candidates, or the one of the highest score
    prompt                  a point, or a box

Prompts are as in the authors' code: both are of the largest connected part of the object on its slice. The point is the
deepest one there.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from scipy import ndimage

from segserve.types import Bool, Direction

# Pixels that touch at a corner are connected, as in the authors' code.
CONNECTIVITY = np.ones((3, 3), np.bool_)


class SliceChoice(StrEnum):
    """The slice of an object that gets its prompt."""

    FIRST = "first"
    CENTRE = "centre"
    LARGEST = "largest"


class PropagationDirection(StrEnum):
    """Where an object is followed to."""

    FORWARD = "forward"  # front to end: from the slice with the prompt to the last slice
    BOTH = "both"  # to the last slice and back to the first


class MaskChoice(StrEnum):
    """Which candidate counts on the slice with the prompt."""

    FIRST = "first"
    BEST = "best"


class PromptKind(StrEnum):
    """What the prompt is made of."""

    POINT = "point"
    BOX = "box"


DIRECTIONS = {
    PropagationDirection.FORWARD: Direction.FORWARD,
    PropagationDirection.BOTH: Direction.BOTH,
}
# The API's names of prompts made from labels.
REFERENCE_PROMPTS: dict[PromptKind, Literal["points", "box"]] = {
    PromptKind.POINT: "points",
    PromptKind.BOX: "box",
}


@dataclass(frozen=True)
class VolumeSetting:
    """One of the 24 settings."""

    prompt: PromptKind
    slices: SliceChoice
    direction: PropagationDirection
    select: MaskChoice

    @property
    def name(self) -> str:
        """The setting as a file name: "box-largest-both-first"."""
        return "-".join((self.prompt, self.slices, self.direction, self.select))


def choose_settings(
    prompts: Sequence[PromptKind] = (),
    slices: Sequence[SliceChoice] = (),
    directions: Sequence[PropagationDirection] = (),
    selects: Sequence[MaskChoice] = (),
) -> list[VolumeSetting]:
    """Return the settings with one of the given values each, all 24 without any. No setting is there twice."""
    axes = (
        dict.fromkeys(prompts or PromptKind),
        dict.fromkeys(slices or SliceChoice),
        dict.fromkeys(directions or PropagationDirection),
        dict.fromkeys(selects or MaskChoice),
    )
    return [VolumeSetting(*values) for values in itertools.product(*axes)]


def largest_region(mask: Bool) -> Bool:
    """Return the largest connected part of a mask [H, W] that is not empty."""
    parts, count = ndimage.label(mask, CONNECTIVITY)
    if count == 1:
        return mask
    largest: Bool = parts == 1 + int(np.bincount(parts.ravel())[1:].argmax())
    return largest
