"""An object through the slices: its mask on one becomes the prompt on the next."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from segserve.decode.segment import decode
from segserve.encode.prepared import PreparedImage
from segserve.masks import crop
from segserve.models.model import Model
from segserve.projection.plan import Direction, Step, plan
from segserve.projection.prompts import Projection, project
from segserve.timing import Timings
from segserve.types import Bool, Candidate, Crop, Prompt, Select


@dataclass(frozen=True)
class FollowOptions:
    """iou_threshold: an object ends where its mask overlaps less with that of the slice before. The defaults are
    those of μSAM's annotator."""

    projection: Projection = Projection.MASK
    iou_threshold: float = 0.5
    box_extension: float = 0.0
    direction: Direction = Direction.BOTH
    select: Select = Select.BEST  # of the candidates on annotated slices


@dataclass
class Followed:
    """An object so far. masks: by slice. ended: chains of the plan that go no further."""

    masks: dict[int, Crop]
    ended: set[int] = field(default_factory=set)

    def steps(self, annotated: list[int], count: int, options: FollowOptions) -> list[Step]:
        return plan(annotated, count, options.direction)


def annotate(
    model: Model, image: PreparedImage, prompts: list[Prompt], options: FollowOptions, timings: Timings
) -> Candidate | None:
    """What a user's prompts say of an annotated slice: one object, of all of them together. None: nothing."""
    found = [decode(model, image, prompt, None, options.select, timings)[0] for prompt in prompts]
    best = max(found, key=lambda each: each.score)
    joined: Bool = np.logical_or.reduce([crop.to_mask(each.crop) for each in found])
    if not joined.any():
        return None
    return best if len(found) == 1 else Candidate(crop.from_mask(joined), best.logits, best.score)


def advance(
    model: Model,
    image: PreparedImage,
    step: Step,
    object_: Followed,
    options: FollowOptions,
    timings: Timings,
) -> Candidate | None:
    """The object on the step's slice, also noted in `object_`. None: it is not there, or has ended before."""
    if step.chain in object_.ended:
        return None
    sources = [object_.masks[at] for at in step.sources if at in object_.masks]
    if not sources:
        object_.ended.add(step.chain)
        return None
    before: Bool = np.logical_or.reduce([crop.to_mask(each) for each in sources])
    prompt = project(before, options.projection, options.box_extension)
    found = decode(model, image, prompt, False, Select.BEST, timings)[0]
    now = crop.to_mask(found.crop)
    if not now.any() or (step.stops and iou(before, now) < options.iou_threshold):
        object_.ended.add(step.chain)
        return None
    object_.masks[step.slice] = found.crop
    return found


def iou(first: Bool, second: Bool) -> float:
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


# Slices by their place.
Images = Callable[[int], PreparedImage]
Annotations = Mapping[int, list[Prompt]]
