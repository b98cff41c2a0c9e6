"""Bodies of requests: JSON by its structure and its schemas, protobuf messages, prompts."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from fastapi.exceptions import RequestValidationError
from google.protobuf.struct_pb2 import Struct

from segserve.decode.check_prompt import check_prompt_coordinates
from segserve.types import Size
from segserve.v1 import jobs_pb2, segmentation_pb2
from segserve.wire.grpc.convert.automatic import automatic_from_message
from segserve.wire.grpc.convert.images import read_options_from_message
from segserve.wire.grpc.convert.instances import instances_from_message
from segserve.wire.grpc.convert.jobs import add_prompts_from_message, job_from_message
from segserve.wire.grpc.convert.segment import segment_from_message
from segserve.wire.grpc.convert.semantic import semantic_from_message
from segserve.wire.grpc.convert.similar import similar_from_message
from segserve.wire.grpc.message_structure import parse
from segserve.wire.http.json_structure import count_json
from segserve.wire.http.problems import validation_to_response
from segserve.wire.http.request_body import validate_json
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.images import FetchImageIn
from segserve.wire.schemas.instances import InstancesIn
from segserve.wire.schemas.jobs import JobIn
from segserve.wire.schemas.propagation import AddPromptsIn
from segserve.wire.schemas.segment import SegmentIn
from segserve.wire.schemas.semantic import SemanticIn
from segserve.wire.schemas.similar import SimilarIn
from tests.fuzz.harnesses.harness import Harness, expect_refusals

SCHEMAS: tuple[Any, ...] = (
    SegmentIn,
    AutomaticIn,
    SimilarIn,
    SemanticIn,
    InstancesIn,
    JobIn,
    AddPromptsIn,
    FetchImageIn,
)
IMAGE_SIZE = Size(24, 36)
IMAGE_ID = "0" * 64
# The bodies that are sent to each route, and mutated.
BODIES: dict[str, dict[str, Any]] = {
    "SegmentIn": {
        "image_id": IMAGE_ID,
        "model": "starter",
        "format": "rle",
        "select": "best",
        "multimask": None,
        "prompts": [
            {"points": [[3, 4.5], [1e1, 2]], "labels": [1, 0], "box": [0, 0, 9, 8]},
            {"mask": {"size": [24, 36], "counts": "P=0"}},
            {"mask_id": "x", "points": [[0, 0]]},
            {"logits": {"size": [1, 2], "data": "AAAAAA=="}},
        ],
    },
    "AutomaticIn": {
        "image_id": IMAGE_ID,
        "method": "amg",
        "format": "coco",
        "params": {"points_per_side": 2, "crop_n_layers": 0},
    },
    "SimilarIn": {
        "image_id": IMAGE_ID,
        "example_image_id": IMAGE_ID,
        "examples": [{"mask": {"size": [24, 36], "counts": "P=0"}}, {"points": [[3, 4]]}],
        "params": {"min_likeness": 0.5, "max_objects": 9, "rounds": 1, "include_examples": True},
        "format": "polygon",
    },
    "SemanticIn": {
        "image_id": IMAGE_ID,
        "tile": [64, 64],
        "overlap": 0.25,
        "threshold": {"nucleus": 0.5},
        "postprocess": {"opening": 1, "fill_holes": True},
        "format": "png",
    },
    "InstancesIn": {"image_id": IMAGE_ID, "score_threshold": 0.5, "max_objects": 9, "classes": ["cat"]},
    "JobIn": {
        "kind": "video",
        "model": "starter",
        "input": {"file_id": IMAGE_ID},
        "params": {
            "engine": "projection",
            "direction": "both",
            "objects": [{"object_id": 1, "prompts": [{"frame": 0, "points": [[1, 2]], "labels": [1]}]}],
        },
    },
    "AddPromptsIn": {"objects": [{"object_id": 1, "prompts": [{"frame": 0, "box": [1, 2, 3, 4]}]}]},
    "FetchImageIn": {"url": "https://example.org/image.png"},
}
BATCH = {
    "kind": "batch",
    "input": {"image_ids": [IMAGE_ID]},
    "params": {"operation": "segment", "prompts": {IMAGE_ID: [{"points": [[1, 2]]}]}},
    "webhook": "https://example.org/",
}

Convert = Callable[[Any], Any]
MESSAGES: tuple[tuple[Any, Convert], ...] = (
    (segmentation_pb2.SegmentRequest, segment_from_message),
    (segmentation_pb2.AutomaticRequest, automatic_from_message),
    (segmentation_pb2.SemanticRequest, semantic_from_message),
    (segmentation_pb2.InstancesRequest, instances_from_message),
    (segmentation_pb2.ReadOptions, read_options_from_message),
    (jobs_pb2.SubmitJobRequest, job_from_message),
    (jobs_pb2.AddPromptsRequest, add_prompts_from_message),
    (segmentation_pb2.SimilarRequest, similar_from_message),
)


def read_body(data: bytes) -> None:
    """The first byte chooses the route's schema, the rest is the body."""
    schema, body = SCHEMAS[data[0] % len(SCHEMAS) if data else 0], data[1:]
    check_structure(body)
    with expect_refusals():
        request = read_request(body, schema)
        if isinstance(request, SegmentIn):
            for prompt in request.prompts:
                check_prompt_coordinates(prompt.to_prompt("prompts.0", IMAGE_SIZE), IMAGE_SIZE, "prompts.0")


def read_request(body: bytes, schema: Any) -> Any:
    """Return the request, or None where the answer is a list of faults."""
    try:
        return validate_json(body, schema)
    except RequestValidationError as error:
        response = validation_to_response(error)
    assert 400 <= response.status_code < 500
    return None


def check_structure(body: bytes) -> None:
    """Check the count of a body's values, keys and levels against what a parser builds of it."""
    counted = count_json(body)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return
    values, keys, depth = measure(content)
    assert counted.values >= values
    assert counted.keys >= keys
    assert counted.depth == depth


def measure(content: Any) -> tuple[int, int, int]:
    """Return the number of values, of keys, and of levels. A key that is there twice counts once."""
    if not isinstance(content, list | dict):
        return 1, 0, 0
    parts = [measure(part) for part in (content.values() if isinstance(content, dict) else content)]
    keys = (len(content) if isinstance(content, dict) else 0) + sum(part[1] for part in parts)
    return 1 + sum(part[0] for part in parts), keys, 1 + max((part[2] for part in parts), default=0)


def read_message(data: bytes) -> None:
    """The first byte chooses the request, the rest is the message."""
    message_class, convert = MESSAGES[data[0] % len(MESSAGES) if data else 0]
    with expect_refusals():
        convert(parse(data[1:], message_class))


def body_seeds() -> Iterable[bytes]:
    for index, schema in enumerate(SCHEMAS):
        yield bytes([index]) + json.dumps(BODIES[schema.__name__]).encode()
    yield bytes([SCHEMAS.index(JobIn)]) + json.dumps(BATCH).encode()
    yield bytes([0]) + b'{"image_id": "\\u00e9\\"[{,:\\\\", "prompts": [[[[]]]]}'


def make_messages() -> list[Any]:
    """A request of each class in MESSAGES."""
    prompt = segmentation_pb2.Prompt(
        points=[segmentation_pb2.Point(x=3, y=4), segmentation_pb2.Point(x=1, y=2, negative=True)],
        box=segmentation_pb2.Box(x1=9, y1=8),
        mask=segmentation_pb2.Rle(height=24, width=36, counts="P=0"),
    )
    params = Struct()
    params.update({"engine": "projection", "direction": "both"})
    objects = [jobs_pb2.ObjectPrompts(object_id=1, prompts=[jobs_pb2.FramePrompt(frame=0, prompt=prompt)])]
    return [
        segmentation_pb2.SegmentRequest(
            image_id=IMAGE_ID, prompts=[prompt, prompt], format="MASK_FORMAT_RLE", multimask=True
        ),
        segmentation_pb2.AutomaticRequest(
            image_id=IMAGE_ID, amg=segmentation_pb2.AmgParams(points_per_side=2), format="RESULT_FORMAT_RLE"
        ),
        segmentation_pb2.SemanticRequest(
            image_id=IMAGE_ID,
            thresholds={"nucleus": 0.5},
            tile=segmentation_pb2.TileSize(height=64, width=64),
            postprocess=segmentation_pb2.Postprocess(opening=1, crf=segmentation_pb2.Crf(iterations=2)),
        ),
        segmentation_pb2.InstancesRequest(image_id=IMAGE_ID, classes=["cat"], max_objects=9),
        segmentation_pb2.ReadOptions(page=1, channels=[0, 1], normalise="NORMALISE_MINMAX"),
        jobs_pb2.SubmitJobRequest(video=jobs_pb2.Video(file_id=IMAGE_ID, objects=objects, params=params)),
        jobs_pb2.AddPromptsRequest(job_id="1", objects=objects),
        segmentation_pb2.SimilarRequest(
            image_id=IMAGE_ID,
            examples=[prompt],
            params=segmentation_pb2.SimilarParams(min_likeness=0.5, rounds=1),
        ),
    ]


def message_seeds() -> Iterable[bytes]:
    for index, message in enumerate(make_messages()):
        yield bytes([index]) + message.SerializeToString()
    batch = jobs_pb2.Batch(image_ids=["a", "b"], names=["x", "y"], operation="segment", root="r", folder="f")
    yield (
        bytes([5])
        + jobs_pb2.SubmitJobRequest(batch=batch, webhook="https://example.org/").SerializeToString()
    )


FIELDS = tuple(
    f'"{name}"'.encode() for body in (*BODIES.values(), BATCH) for name in (*body, *body.get("params", {}))
)
HARNESSES = (
    Harness("json", read_body, body_seeds, (*FIELDS, b"1e999", b"NaN", b"-0", b"\\ud800", b"null"), 1 << 12),
    Harness("protobuf", read_message, message_seeds, max_bytes=1 << 12),
)
