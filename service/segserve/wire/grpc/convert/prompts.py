"""Prompts, from messages to the JSON that REST takes."""

import base64
from collections.abc import Sequence
from typing import Any

from segserve.errors import BadInput
from segserve.v1 import segmentation_pb2
from segserve.wire.schemas.prompts import MAX_IMAGE_POINTS, MAX_PROMPTS


def check_count(items: Sequence[Any], maximum: int, field: str) -> None:
    """Raises BadInput about `field` if there are too many."""
    if len(items) > maximum:
        raise BadInput(
            f"There are {len(items)} of them, the maximum is {maximum}.",
            field=field,
            remedy="Send fewer at once.",
        )


def check_counts(prompts: Sequence[segmentation_pb2.Prompt], field: str = "prompts") -> None:
    """Check what `SegmentIn` checks too, before the prompts of a request are converted. Raises BadInput."""
    check_count(prompts, MAX_PROMPTS, field)
    points = sum(len(prompt.points) for prompt in prompts)
    if points > MAX_IMAGE_POINTS:
        raise BadInput(
            f"The prompts have {points} points together, the maximum is {MAX_IMAGE_POINTS}.",
            field=field,
            remedy="Send fewer at once.",
        )


def prompt_from_message(message: segmentation_pb2.Prompt) -> dict[str, Any]:
    """The JSON of `PromptIn`, not checked yet."""
    prompt: dict[str, Any] = {
        "points": [(point.x, point.y) for point in message.points],
        "labels": [int(not point.negative) for point in message.points],
    }
    if message.HasField("box"):
        prompt["box"] = (message.box.x0, message.box.y0, message.box.x1, message.box.y1)
    match message.WhichOneof("prior"):
        case "mask_id":
            prompt["mask_id"] = message.mask_id
        case "mask":
            prompt["mask"] = {
                "size": (message.mask.height, message.mask.width),
                "counts": message.mask.counts,
            }
        case "logits":
            data = base64.b64encode(message.logits.data).decode()
            prompt["logits"] = {"size": (message.logits.height, message.logits.width), "data": data}
    return prompt
