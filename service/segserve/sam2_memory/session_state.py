"""The state of a session as bytes (checkpoint), to go on later or in another process.

The format is safetensors; everything that is not a tensor is JSON in their metadata. With the same model, device and
number of threads, a loaded session goes on bit by bit as the first would have. The features of the present frame are
not part of the state: the frame is encoded again if it is needed.
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

# The dictionaries of `MemoryBank` and the tensors of `FrameMemory`, by attribute name.
MEMORY_DICTS = ("prompted", "tracked", "pending")
MEMORY_TENSORS = ("pointer", "features", "logits")


def dump_session(session: Sam2Session) -> bytes:
    """Return a session as bytes: equal bytes for equal sessions."""
    tensors: dict[str, Tensor] = {}
    objects = [
        {"id": object_id, **bank_to_json(bank, str(number), tensors)}
        for number, (object_id, bank) in enumerate(session.banks.items())
    ]
    metadata = {
        "format": FORMAT,
        "model": session.network.model,
        "image_size": session.network.image_size,
        "size": [session.size.height, session.size.width],
        "count": session.count,
        "origin": session.pass_start,
        "position": session.last_frame,
        "reverse": session.reverse,
        "objects": objects,
    }
    return write_tensors(tensors, {"session": json.dumps(metadata)})


def bank_to_json(bank: MemoryBank, name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return a bank as JSON, and put its tensors into `tensors`, with names that begin with `name`.

    The order of frames is kept, because it is the order of the memories that a frame attends to.
    """
    for frame, clicks in bank.clicks.items():
        tensors[f"{name}.clicks.{frame}.points"] = clicks.points.cpu()
        tensors[f"{name}.clicks.{frame}.labels"] = clicks.labels.cpu()
    fields: dict[str, Any] = {"clicks": list(bank.clicks)}
    for kind in MEMORY_DICTS:
        memories: dict[int, FrameMemory] = getattr(bank, kind)
        fields[kind] = [[frame, memory.score] for frame, memory in memories.items()]
        for frame, memory in memories.items():
            for tensor_name in MEMORY_TENSORS:
                if (tensor := getattr(memory, tensor_name)) is not None:
                    tensors[f"{name}.{kind}.{frame}.{tensor_name}"] = tensor.cpu()
    return fields


def load_session(network: Sam2VideoNetwork, state: bytes, *, raw: bool = True) -> Sam2Session:
    """Return the session that `dump_session` made `state` of. raw: see `Sam2Session`.

    Raises BadInput if the bytes are not the state of a session, or if it is of another model or image size.
    """
    try:
        tensors = {name: tensor.to(network.device.value) for name, tensor in read_tensors(state).items()}
        header_length = int.from_bytes(state[:8], "little")
        metadata = json.loads(json.loads(state[8 : 8 + header_length])["__metadata__"]["session"])
        if metadata["format"] != FORMAT:
            raise ValueError(f"format {metadata['format']}")
        session = Sam2Session(network, Size(*metadata["size"]), metadata["count"], raw=raw)
        session.pass_start, session.last_frame = metadata["origin"], metadata["position"]
        session.reverse = metadata["reverse"]
        for number, fields in enumerate(metadata["objects"]):
            session.banks[fields["id"]] = bank_from_json(fields, str(number), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "This is not the state of a session.", field="state", remedy="Begin from the first frame again."
        ) from error
    if (metadata["model"], metadata["image_size"]) != (network.model, network.image_size):
        raise BadInput(
            "The state is of another model or image size.",
            field="state",
            remedy="Go on with the model it was begun with, or begin from the first frame again.",
        )
    return session


def bank_from_json(fields: dict[str, Any], name: str, tensors: dict[str, Tensor]) -> MemoryBank:
    """Return the bank that `bank_to_json` made `fields` and `tensors` of."""
    bank = MemoryBank()
    for frame in fields["clicks"]:
        prefix = f"{name}.clicks.{frame}"
        bank.clicks[frame] = FrameClicks(tensors[f"{prefix}.points"], tensors[f"{prefix}.labels"])
    for kind in MEMORY_DICTS:
        memories: dict[int, FrameMemory] = getattr(bank, kind)
        for frame, score in fields[kind]:
            prefix = f"{name}.{kind}.{frame}"
            features, logits = tensors.get(f"{prefix}.features"), tensors.get(f"{prefix}.logits")
            memories[frame] = FrameMemory(tensors[f"{prefix}.pointer"], features, logits, score)
    return bank
