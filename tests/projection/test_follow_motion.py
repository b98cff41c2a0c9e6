"""Objects that move are followed through drawn clips by the bundled starter model."""

from functools import cache

import numpy as np
import pytest

from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.masks import crop
from segserve.masks.geometry import bounding_box, iou
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.projection.follow_motion import MotionPropagator
from segserve.projection.propagate import FoundOnSlice, PropagationOptions
from segserve.projection.slice_order import ProjectionVisit, plan_projection
from segserve.store.redis_cache import pack_embedding, unpack_embedding
from segserve.timing import Timings
from segserve.types import Bool, Box, Direction, LossReason, ObjectEnd, Prompt, Size, UInt8
from tests.projection.drawn_clip import HEIGHT, WIDTH, Disc, draw_clip

OPTIONS = PropagationOptions(
    iou_threshold=0.4,
    min_score=0.5,
    min_likeness=0.75,
    max_move=0.1,
    min_step_likeness=0.75,
    max_overlap=0.5,
    max_gap=10,
)
SIZE = Size(HEIGHT, WIDTH)
COUNT = 24


@cache
def load_model() -> PromptableModel:
    options = RuntimeOptions(threads=2)
    return ModelRegistry([BUILT_IN_MODELS], RuntimeOptionsByGraph(options, options, options), 1 << 40).load(
        "starter", PromptableModel
    )


class Clip:
    """A clip with its truth, encoded frame by frame as they are needed."""

    def __init__(self, frames: UInt8, truth: list[list[Bool]]) -> None:
        self.frames, self.truth = frames, truth
        self._encoded: dict[int, PreparedImage] = {}

    def encode(self, index: int) -> PreparedImage:
        if index not in self._encoded:
            model = load_model()
            pixels = preprocess_image(self.frames[index], model.preprocess)
            embedding = unpack_embedding(pack_embedding(model.encode(pixels)))
            self._encoded[index] = PreparedImage(SIZE, embedding, model.prepare(embedding, None))
        return self._encoded[index]

    def plan(self, at: int = 0, direction: Direction = Direction.FORWARD) -> list[ProjectionVisit]:
        objects = {number: {at: 0} for number in range(1, len(self.truth) + 1)}
        return plan_projection(objects, len(self.frames), direction)

    def follow(self, propagator: MotionPropagator, visits: list[ProjectionVisit]) -> "Followed":
        followed = Followed()
        for visit in visits:
            if not propagator.has_work(visit):
                continue
            prompts = {
                number: Prompt(box=Box(*map(float, bounding_box(self.truth[number - 1][visit.slice]))))
                for number, _ in visit.annotated
            }
            image = self.encode(visit.slice)
            followed.add(
                visit.slice,
                propagator.visit(self.frames[visit.slice], image, visit, prompts, Timings()),
            )
        return followed


class Followed:
    """What was found: masks by object and frame, missing reasons by frame, and ends."""

    def __init__(self) -> None:
        self.masks: dict[int, dict[int, Bool]] = {}
        self.missing: dict[int, dict[int, LossReason]] = {}
        self.ends: list[ObjectEnd] = []

    def add(self, index: int, found: FoundOnSlice) -> None:
        for number, candidate in found.masks.items():
            self.masks.setdefault(number, {})[index] = crop.to_mask(candidate.crop)
        for number, reason in found.missing.items():
            self.missing.setdefault(number, {})[index] = reason
        self.ends += found.ends


def follow(clip: Clip, options: PropagationOptions = OPTIONS) -> Followed:
    return clip.follow(MotionPropagator(load_model(), SIZE, options), clip.plan())


@cache
def fast_clip() -> Clip:
    """A disc that moves by most of its own width from frame to frame."""
    return Clip(*draw_clip([Disc(lambda t: (30 + 14 * t, 60 + 2 * t), 13, 170)], 13))


@cache
def crossing_clip() -> Clip:
    """Two discs meet: the second passes behind the first."""
    return Clip(
        *draw_clip(
            [Disc(lambda t: (60 + 5 * t, 80), 15, 190), Disc(lambda t: (180 - 5 * t, 84), 15, 110)], COUNT
        )
    )


@cache
def hidden_clip() -> Clip:
    """A disc passes behind a bar that hides it whole for some frames."""
    return Clip(*draw_clip([Disc(lambda t: (40 + 7 * t, 80), 13, 180)], COUNT, bar=(100, 134)))


def test_the_prompt_moves_with_the_object() -> None:
    clip = fast_clip()
    followed = follow(clip)
    assert set(followed.masks[1]) == set(range(13))
    assert min(iou(mask, clip.truth[0][at]) for at, mask in followed.masks[1].items()) >= 0.75


def test_an_object_that_leaves_the_frame_is_lost_there() -> None:
    clip = Clip(*draw_clip([Disc(lambda t: (60 + 12 * t, 80), 14, 180)], COUNT))
    followed = follow(clip)
    last = max(at for at, mask in enumerate(clip.truth[0]) if mask.sum() > 300)
    [end] = followed.ends
    assert abs(end.frame - last - 1) <= 1
    assert end.last_frame == end.frame - 1 == max(followed.masks[1])
    assert end.reason is LossReason.LEFT


def test_an_object_is_found_again_behind_a_bar() -> None:
    clip = hidden_clip()
    followed = follow(clip)
    seen = {at for at, mask in enumerate(clip.truth[0]) if mask.sum() > 450}
    hidden = {at for at, mask in enumerate(clip.truth[0]) if not mask.any()}
    assert hidden
    assert seen <= set(followed.masks[1])
    assert not hidden & set(followed.masks[1])
    assert hidden <= set(followed.missing[1])
    assert followed.ends == []
    assert min(iou(followed.masks[1][at], clip.truth[0][at]) for at in seen) >= 0.7


def test_without_a_gap_a_hidden_object_is_lost_at_once() -> None:
    clip = hidden_clip()
    [end] = follow(clip, PropagationOptions(**{**vars(OPTIONS), "max_gap": 0})).ends
    hidden = [at for at, mask in enumerate(clip.truth[0]) if not mask.any()]
    assert hidden[0] - 3 <= end.frame <= hidden[0]


def test_an_object_that_is_missing_at_the_end_is_told() -> None:
    frames, truth = draw_clip([Disc(lambda t: (40 + 7 * t, 80), 13, 180)], 12, bar=(100, 134))
    assert not truth[0][-1].any()
    [end] = follow(Clip(frames, truth)).ends
    assert 8 <= end.frame <= 11


def test_objects_that_cross_do_not_swap_and_no_two_share_a_place() -> None:
    clip = crossing_clip()
    followed = follow(clip)
    for at in range(COUNT):
        first, second = followed.masks[1].get(at), followed.masks[2].get(at)
        if first is not None and second is not None:
            assert (first & second).sum() <= 0.5 * min(first.sum(), second.sum())
    for number in (1, 2):
        last = followed.masks[number][COUNT - 1]
        assert iou(last, clip.truth[number - 1][COUNT - 1]) >= 0.7, number


def test_a_part_of_another_object_may_be_followed_with_it() -> None:
    """A wheel moves with its car: they shared a place when they were marked."""
    clip = Clip(
        *draw_clip([Disc(lambda t: (60 + 4 * t, 80), 9, 220), Disc(lambda t: (60 + 4 * t, 80), 26, 120)], 8)
    )
    clip.truth[1] = [first | second for first, second in zip(*clip.truth, strict=True)]
    followed = follow(clip)
    assert set(followed.masks[1]) == set(followed.masks[2]) == set(range(8))


@pytest.mark.parametrize("cut", [1, 9, 12, 15, COUNT - 1])
def test_a_dumped_propagator_goes_on_from_any_visit(cut: int) -> None:
    """Also in the middle of a gap."""
    clip = hidden_clip()
    visits = clip.plan()
    whole = follow(clip)
    before = MotionPropagator(load_model(), SIZE, OPTIONS)
    first = clip.follow(before, visits[:cut])
    after = MotionPropagator(load_model(), SIZE, OPTIONS)
    after.load(before.dump())
    assert after.dump() == before.dump()
    rest = clip.follow(after, visits[cut:])
    masks = first.masks[1] | rest.masks.get(1, {})
    assert masks.keys() == whole.masks[1].keys()
    assert all(np.array_equal(mask, whole.masks[1][at]) for at, mask in masks.items())
    assert first.missing.get(1, {}) | rest.missing.get(1, {}) == whole.missing[1]


def test_between_two_prompts_nothing_is_given_up() -> None:
    clip = hidden_clip()
    visits = plan_projection({1: {2: 0, COUNT - 2: 0}}, COUNT, Direction.BOTH)
    followed = clip.follow(MotionPropagator(load_model(), SIZE, OPTIONS), visits)
    seen = {at for at, mask in enumerate(clip.truth[0]) if mask.sum() > 450}
    assert seen <= set(followed.masks[1])
    assert followed.ends == []
    assert min(iou(followed.masks[1][at], clip.truth[0][at]) for at in seen) >= 0.7
