"""Requests of other tools: their JSON, and tensors of the Open Inference Protocol over HTTP and gRPC."""

import base64
import contextlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from fastapi.exceptions import RequestValidationError

from segserve.inference import inference_pb2
from segserve.wire.frontends.json_body import ClientBody, parse_body
from segserve.wire.frontends.open_inference.grpc_service import infer_from_message
from segserve.wire.frontends.open_inference.http_tensors import read_request
from segserve.wire.frontends.qupath.bodies import AutoMaskBody, PromptBody
from segserve.wire.frontends.sent_images import decode_base64
from segserve.wire.frontends.x_anylabeling.models import VIDEO_SUFFIX
from segserve.wire.frontends.x_anylabeling.predict import PredictIn, marks_to_prompts
from segserve.wire.frontends.x_anylabeling.video import InitIn, PromptIn, PropagateIn
from segserve.wire.grpc.message_structure import parse
from tests.fuzz.harnesses.harness import Harness, expect_refusals

# In place of a picture: what is decoded from it is not read here.
IMAGE = base64.b64encode(b"a picture").decode()
SCHEMAS: tuple[type[ClientBody], ...] = (
    PredictIn,
    InitIn,
    PromptIn,
    PropagateIn,
    PromptBody,
    AutoMaskBody,
)
# The bodies that are sent to each route, and mutated. X-AnyLabeling's and QuPath's.
CLIENT_BODIES: dict[str, dict[str, Any]] = {
    "PredictIn": {
        "model": "starter",
        "image": f"data:image/png;base64,{IMAGE}",
        "params": {
            "marks": [
                {"type": "point", "data": [413, 190], "label": 1},
                {"type": "rectangle", "data": [400, 180, 430, 200]},
            ],
            "epsilon_factor": 0.001,
            "conf_threshold": 0.5,
        },
    },
    "InitIn": {"model": f"starter{VIDEO_SUFFIX}", "frames": [IMAGE, IMAGE]},
    "PromptIn": {
        "session_id": "x",
        "frame_index": 0,
        "points": [[0.5, 0.5]],
        "point_labels": [1],
        "obj_id": 1,
        "params": {"epsilon_factor": 0.001},
    },
    "PropagateIn": {"session_id": "x", "start_frame": 0, "end_frame": 1},
    "PromptBody": {
        "type": "vit_h",
        "b64img": IMAGE,
        "bbox": [400, 180, 430, 200],
        "point_coords": [[413, 190]],
        "point_labels": [1],
        "multimask_output": True,
    },
    "AutoMaskBody": {"type": "vit_t", "b64img": IMAGE, "points_per_side": 2, "crop_n_layers": 0},
}
INFERENCE: dict[str, Any] = {
    "id": "1",
    "inputs": [
        {"name": "image", "datatype": "UINT8", "shape": [2, 3, 3], "data": list(range(18))},
        {"name": "point_coords", "datatype": "FP32", "shape": [1, 1, 2], "data": [1.5, 1]},
    ],
    "outputs": [{"name": "masks", "parameters": {"binary_data": True}}, {"name": "iou_predictions"}],
    "parameters": {"binary_data_output": False},
}


def read_body(data: bytes) -> None:
    """The first byte chooses the schema, the rest is the body."""
    schema = SCHEMAS[data[0] % len(SCHEMAS) if data else 0]
    with expect_refusals():
        try:
            body = parse_body(data[1:], schema)
        except RequestValidationError:
            return
        if isinstance(body, PredictIn):
            decode_base64(body.image, "image")
            marks_to_prompts(body.params.marks)
        if isinstance(body, PromptBody):
            body.to_prompt()


def read_tensors(data: bytes) -> None:
    """The first byte chooses the form, for HTTP the next two how long the JSON is; the rest is the body."""
    form, body = data[:1], data[1:]
    with expect_refusals():
        if form < b"\x40":
            infer_from_message(parse(body, inference_pb2.ModelInferRequest))
            return
        length = str(int.from_bytes(body[:2], "big")) if form < b"\x80" else None
        with contextlib.suppress(RequestValidationError):
            read_request(body[2:], "starter", "1", length)


def body_seeds() -> Iterable[bytes]:
    for index, schema in enumerate(SCHEMAS):
        yield bytes([index]) + json.dumps(CLIENT_BODIES[schema.__name__]).encode()


def make_infer_message() -> inference_pb2.ModelInferRequest:
    tensor = inference_pb2.ModelInferRequest.InferInputTensor
    return inference_pb2.ModelInferRequest(
        model_name="starter",
        inputs=[tensor(name="image", datatype="UINT8", shape=[2, 3, 3])],
        raw_input_contents=[bytes(18)],
    )


def tensor_seeds() -> Iterable[bytes]:
    yield b"\x00" + make_infer_message().SerializeToString()
    typed = inference_pb2.ModelInferRequest(model_name="starter")
    points = typed.inputs.add(name="point_coords", datatype="FP32", shape=[1, 1, 2])
    points.contents.fp32_contents.extend([1.5, 1])
    names = typed.inputs.add(name="image", datatype="BYTES", shape=[1])
    names.contents.bytes_contents.append(b"a picture")
    yield b"\x00" + typed.SerializeToString()
    yield b"\x80\0\0" + json.dumps(INFERENCE).encode()
    values = np.arange(18, dtype=np.uint8).tobytes()
    binary = {
        "name": "image",
        "datatype": "UINT8",
        "shape": [2, 3, 3],
        "parameters": {"binary_data_size": 18},
    }
    head = json.dumps({"inputs": [binary]}).encode()
    yield b"\x40" + len(head).to_bytes(2, "big") + head + values
    text = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}
    head = json.dumps({"inputs": [text]}).encode()
    yield b"\x40" + len(head).to_bytes(2, "big") + head + b"\x01\0\0\0a"


WORDS = tuple(
    f'"{name}"'.encode() for body in CLIENT_BODIES.values() for name in (*body, *body.get("params", {}))
)
TYPES = (b"FP16", b"FP32", b"BYTES", b"BOOL", b"INT64", b'"binary_data_size"', b"\xff\xff\xff\x7f")
HARNESSES = (
    Harness("frontends", read_body, body_seeds, WORDS, 1 << 12),
    Harness("tensors", read_tensors, tensor_seeds, TYPES, 1 << 12),
)
