"""Objects through a drawn volume, by the bundled starter."""

from functools import cache

import numpy as np
import pytest

from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.masks import crop
from segserve.masks.geometry import iou
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph
from segserve.projection.mask_to_prompt import Projection
from segserve.projection.propagate import MaskPropagator, PropagationOptions
from segserve.projection.slice_order import ProjectionVisit, plan_projection
from segserve.store.redis_cache import pack_embedding, unpack_embedding
from segserve.timing import Timings
from segserve.types import Bool, Direction, Prompt, Size
from tests import drawn

VALUES, LABELS = drawn.volume()
SIZE, MIDDLE = Size(*VALUES.shape[1:]), 10
SEEN = {label: (cell.begin, cell.end) for label, cell in enumerate(drawn.CELLS, 1)}


@cache
def model() -> PromptableModel:
    options = RuntimeOptions(threads=2)
    return ModelRegistry([BUILT_IN_MODELS], RuntimeOptionsByGraph(options, options, options), 1 << 40).load(
        "starter", PromptableModel
    )


@cache
def image(at: int) -> PreparedImage:
    rgb = np.repeat(VALUES[at][:, :, None], 3, axis=2)
    embedding = unpack_embedding(pack_embedding(model().encode(preprocess_image(rgb, model().preprocess))))
    return PreparedImage(SIZE, embedding, model().prepare(embedding, None))


def click(label: int, at: int) -> Prompt:
    ys, xs = np.nonzero(LABELS[at] == label)
    return Prompt(np.array([[xs.mean(), ys.mean()]], np.float32), np.ones(1, np.int64))


def followed(follower: MaskPropagator, visits: list[ProjectionVisit]) -> dict[int, dict[int, Bool]]:
    """Masks by object and slice."""
    found: dict[int, dict[int, Bool]] = {label: {} for label in SEEN}
    for visit in visits:
        prompts = {name: click(name, visit.slice) for name, _ in visit.annotated}
        for name, seen in follower.visit(image(visit.slice), visit, prompts, Timings()).items():
            found[name][visit.slice] = crop.to_mask(seen.crop)
    return found


def visits(*annotated: int) -> list[ProjectionVisit]:
    return plan_projection(
        {label: dict.fromkeys(annotated, 0) for label in SEEN}, len(VALUES), Direction.BOTH
    )


@pytest.mark.parametrize("how", [Projection.MASK, Projection.BOX, Projection.SINGLE_POINT])
def test_cells_are_followed_to_where_they_end_and_no_further(how: Projection) -> None:
    found = followed(MaskPropagator(model(), SIZE, PropagationOptions(how, min_score=0.7)), visits(MIDDLE))
    for label, masks in found.items():
        assert (min(masks), max(masks)) == SEEN[label]
        for at, mask in masks.items():
            assert iou(mask, LABELS[at] == label) >= 0.8, (how, label, at)


def test_between_annotated_slices_nothing_is_left_out() -> None:
    found = followed(MaskPropagator(model(), SIZE, PropagationOptions(min_score=0.7)), visits(8, 12, 17))
    for label, masks in found.items():
        assert set(range(8, 18)) <= set(masks)
        assert all(iou(masks[at], LABELS[at] == label) >= 0.8 for at in range(8, 18))


def test_what_it_remembers_is_enough_to_go_on_from_anywhere() -> None:
    options, asked = PropagationOptions(min_score=0.7), visits(9, 14)
    whole = followed(MaskPropagator(model(), SIZE, options), asked)
    for cut in (1, 7, 16, len(asked) - 1):
        before, after = MaskPropagator(model(), SIZE, options), MaskPropagator(model(), SIZE, options)
        first = followed(before, asked[:cut])
        after.load(before.dump())
        rest = followed(after, asked[cut:])
        for label, masks in whole.items():
            joined = first[label] | rest[label]
            assert joined.keys() == masks.keys()
            assert all(np.array_equal(joined[at], mask) for at, mask in masks.items())
