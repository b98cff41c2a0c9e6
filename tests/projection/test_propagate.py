"""Objects are propagated through a drawn volume by the bundled starter model."""

from functools import cache

import numpy as np
import pytest

from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.masks import crop
from segserve.masks.geometry import iou
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.projection.mask_to_prompt import Projection
from segserve.projection.propagate import MaskPropagator, PropagationOptions
from segserve.projection.slice_order import ProjectionVisit, plan_projection
from segserve.store.redis_cache import pack_embedding, unpack_embedding
from segserve.timing import Timings
from segserve.types import Bool, Direction, LossReason, ObjectEnd, Prompt, Size, UInt8
from tests import moving_cells

VALUES, LABELS = moving_cells.draw_volume()
SIZE, MIDDLE = Size(*VALUES.shape[1:]), 10
CELL_RANGES = {label: (cell.begin, cell.end) for label, cell in enumerate(moving_cells.CELLS, 1)}


@cache
def load_model() -> PromptableModel:
    options = RuntimeOptions(threads=2)
    return ModelRegistry([BUILT_IN_MODELS], RuntimeOptionsByGraph(options, options, options), 1 << 40).load(
        "starter", PromptableModel
    )


def read_slice(index: int) -> UInt8:
    return np.repeat(VALUES[index][:, :, None], 3, axis=2)


@cache
def encode_slice(index: int) -> PreparedImage:
    pixels = preprocess_image(read_slice(index), load_model().preprocess)
    embedding = unpack_embedding(pack_embedding(load_model().encode(pixels)))
    return PreparedImage(SIZE, embedding, load_model().prepare(embedding, None))


def click(label: int, at: int) -> Prompt:
    ys, xs = np.nonzero(LABELS[at] == label)
    return Prompt(np.array([[xs.mean(), ys.mean()]], np.float32), np.ones(1, np.int64))


def propagate(
    propagator: MaskPropagator, visits: list[ProjectionVisit], ends: list[ObjectEnd] | None = None
) -> dict[int, dict[int, Bool]]:
    """Masks by object and slice. ends: gets the ends."""
    masks: dict[int, dict[int, Bool]] = {label: {} for label in CELL_RANGES}
    for visit in visits:
        prompts = {object_id: click(object_id, visit.slice) for object_id, _ in visit.annotated}
        found = propagator.visit(
            read_slice(visit.slice), encode_slice(visit.slice), visit, prompts, Timings()
        )
        for object_id, candidate in found.masks.items():
            masks[object_id][visit.slice] = crop.to_mask(candidate.crop)
        if ends is not None:
            ends += found.ends
    return masks


def plan(*annotated: int) -> list[ProjectionVisit]:
    return plan_projection(
        {label: dict.fromkeys(annotated, 0) for label in CELL_RANGES}, len(VALUES), Direction.BOTH
    )


@pytest.mark.parametrize("projection", [Projection.MASK, Projection.BOX, Projection.SINGLE_POINT])
@pytest.mark.parametrize("rule", [{"min_score": 0.7}, {"min_contrast": 0.3}, {"min_likeness": 0.6}])
def test_cells_are_propagated_to_where_they_end_and_no_further(
    projection: Projection, rule: dict[str, float]
) -> None:
    """Each rule alone sees the end."""
    options = PropagationOptions(projection, **rule)
    ends: list[ObjectEnd] = []
    objects = propagate(MaskPropagator(load_model(), SIZE, options), plan(MIDDLE), ends)
    assert sorted((end.object_id, end.frame, end.last_frame) for end in ends) == [
        (1, 1, 2), (1, 19, 18), (3, 5, 6),
    ], "cells that are on the first or last slice have no end there"  # fmt: skip
    assert {end.reason for end in ends} <= {
        LossReason.IOU,
        LossReason.EMPTY,
        LossReason(next(iter(rule))[4:]),
    }
    for label, masks in objects.items():
        assert (min(masks), max(masks)) == CELL_RANGES[label]
        for at, mask in masks.items():
            assert iou(mask, LABELS[at] == label) >= 0.8, (projection, label, at)


def test_no_slice_between_annotated_slices_is_left_out() -> None:
    objects = propagate(
        MaskPropagator(load_model(), SIZE, PropagationOptions(min_score=0.7)), plan(8, 12, 17)
    )
    for label, masks in objects.items():
        assert set(range(8, 18)) <= set(masks)
        assert all(iou(masks[at], LABELS[at] == label) >= 0.8 for at in range(8, 18))


def test_a_dumped_propagator_goes_on_from_any_visit() -> None:
    options, visits = PropagationOptions(min_contrast=0.3, min_likeness=0.6), plan(9, 14)
    whole = propagate(MaskPropagator(load_model(), SIZE, options), visits)
    for cut in (1, 7, 16, len(visits) - 1):
        before, after = (
            MaskPropagator(load_model(), SIZE, options),
            MaskPropagator(load_model(), SIZE, options),
        )
        first = propagate(before, visits[:cut])
        after.load(before.dump())
        rest = propagate(after, visits[cut:])
        for label, masks in whole.items():
            joined = first[label] | rest[label]
            assert joined.keys() == masks.keys()
            assert all(np.array_equal(joined[at], mask) for at, mask in masks.items())
