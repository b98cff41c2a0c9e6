"""Points for a model that is trained for boxes get a hint; boxes, and points that refine a mask, get none."""

import numpy as np

from segserve.decode.check_prompt import hint_missing_boxes
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptableManifest, PromptKind
from segserve.models.registry import BUILT_IN_MODELS
from segserve.types import Box, Prompt

NO_POINTS = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
A_POINT = np.ones((1, 2), np.float32), np.ones(1, np.int64)


def test_points_alone_get_a_hint_where_the_model_wants_boxes() -> None:
    manifest = Bundle(BUILT_IN_MODELS / "starter").expect(PromptableManifest)
    boxes_only = manifest.model_copy(update={"prompts": (PromptKind.BOXES,)})
    click, box = Prompt(*A_POINT), Prompt(*NO_POINTS, Box(1, 1, 5, 5))
    both = Prompt(*A_POINT, Box(1, 1, 5, 5))
    refined = Prompt(*A_POINT, logits=np.zeros((4, 4), np.float32))
    assert not hint_missing_boxes(manifest, [click, box])
    assert not hint_missing_boxes(boxes_only, [box, both, refined])
    assert hint_missing_boxes(boxes_only, [box, click]) == (
        "starter is trained for boxes, not for points: draw a box around the object.",
    )
