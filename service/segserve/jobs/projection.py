"""Objects through the slices of a volume or the frames of a video, by projection: each mask is the prompt for the
next (`segserve.projection`). A unit is one object on one slice.

What is needed to go on after a restart, the masks so far and which chains have ended, is in the published results.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from segserve.projection.follow import FollowOptions
from segserve.projection.plan import Step, plan

CHUNK = 16  # units


class AnnotatedSlice(BaseModel):
    """prompts: as their route takes them."""

    model_config = ConfigDict(extra="forbid")

    slice: int
    prompts: list[dict[str, Any]]


class ObjectRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    object_id: int
    annotated: list[AnnotatedSlice]


@dataclass(frozen=True)
class Unit:
    """One object on one slice. step: None where the user's own prompts say what is there."""

    object: int
    slice: int
    step: Step | None


def units(objects: list[list[int]], count: int, options: FollowOptions) -> list[Unit]:
    """Of each object first its annotated slices, then the others. objects: annotated slices of each, ascending."""
    found = []
    for number, annotated in enumerate(objects):
        found += [Unit(number, at, None) for at in annotated]
        found += [Unit(number, step.slice, step) for step in plan(annotated, count, options.direction)]
    return found
