"""Prompts, from messages to the JSON that REST takes."""

import base64
from typing import Any

from segserve.v1 import segmentation_pb2


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
