"""A session as bytes, to go on from elsewhere or later: safetensors, and what is no tensor as JSON in their metadata.

With the same model, device and number of threads it goes on bit by bit as it would have. The features of the frame at
hand are not in it: the frame is encoded again where it is needed again.
"""

import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor

from segserve.errors import BadInput
from segserve.sam2_memory.memory_bank import FrameClicks, FrameMemory, MemoryBank
from segserve.sam2_memory.network_steps import Sam2VideoNetwork
from segserve.sam2_memory.session import Sam2Session
from segserve.types import Size

FORMAT = 1
MEMORY_DICTS = ("prompted", "tracked", "pending")
MEMORY_TENSORS = ("pointer", "features", "logits")


def dump_session(session: Sam2Session) -> bytes:
    """Equal sessions are equal bytes."""
    tensors: dict[str, Tensor] = {}
    objects = [
        {"id": object_id, **bank_to_json(bank, str(number), tensors)}
        for number, (object_id, bank) in enumerate(session.banks.items())
    ]
    about = {
        "format": FORMAT,
        "model": session.tracker.model,
        "image_size": session.tracker.size,
        "size": [session.size.height, session.size.width],
        "count": session.count,
        "origin": session.origin,
        "position": session.position,
        "reverse": session.reverse,
        "objects": objects,
    }
    return write_tensors(tensors, {"session": json.dumps(about)})


def bank_to_json(bank: MemoryBank, name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Its tensors go into `tensors`, their names begin with `name`. The order of frames is kept: it is that of what is
    looked back at."""
    for frame, clicks in bank.clicks.items():
        tensors[f"{name}.clicks.{frame}.points"] = clicks.points.cpu()
        tensors[f"{name}.clicks.{frame}.labels"] = clicks.labels.cpu()
    told: dict[str, Any] = {"clicks": list(bank.clicks)}
    for kept in MEMORY_DICTS:
        memories: dict[int, FrameMemory] = getattr(bank, kept)
        told[kept] = [[frame, memory.score] for frame, memory in memories.items()]
        for frame, memory in memories.items():
            for field in MEMORY_TENSORS:
                if (tensor := getattr(memory, field)) is not None:
                    tensors[f"{name}.{kept}.{frame}.{field}"] = tensor.cpu()
    return told


def load_session(tracker: Sam2VideoNetwork, state: bytes) -> Sam2Session:
    """Raises BadInput for bytes that are no session's, or of another model or image size."""
    try:
        tensors = {name: tensor.to(tracker.device.value) for name, tensor in read_tensors(state).items()}
        head = int.from_bytes(state[:8], "little")
        about = json.loads(json.loads(state[8 : 8 + head])["__metadata__"]["session"])
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}")
        session = Sam2Session(tracker, Size(*about["size"]), about["count"])
        session.origin, session.position = about["origin"], about["position"]
        session.reverse = about["reverse"]
        for number, told in enumerate(about["objects"]):
            session.banks[told["id"]] = bank_from_json(told, str(number), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "This is not the state of a session.", field="state", remedy="Begin from the first frame again."
        ) from error
    if (about["model"], about["image_size"]) != (tracker.model, tracker.size):
        raise BadInput(
            "The state is of another model or image size.",
            field="state",
            remedy="Go on with the model it was begun with, or begin from the first frame again.",
        )
    return session


def bank_from_json(told: dict[str, Any], name: str, tensors: dict[str, Tensor]) -> MemoryBank:
    bank = MemoryBank()
    for frame in told["clicks"]:
        begin = f"{name}.clicks.{frame}"
        bank.clicks[frame] = FrameClicks(tensors[f"{begin}.points"], tensors[f"{begin}.labels"])
    for kept in MEMORY_DICTS:
        memories: dict[int, FrameMemory] = getattr(bank, kept)
        for frame, score in told[kept]:
            begin = f"{name}.{kept}.{frame}"
            features, logits = tensors.get(f"{begin}.features"), tensors.get(f"{begin}.logits")
            memories[frame] = FrameMemory(tensors[f"{begin}.pointer"], features, logits, score)
    return bank
