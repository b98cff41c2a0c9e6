"""gRPC: every method with mutated messages, streams that do not fit the method, huge counts; bytes that are no HTTP/2.

An input is the method's path and a line end, then how it is called (a byte), then the messages, each after its length.
"""

import random
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from segserve.inference import inference_pb2
from segserve.v1 import files_pb2, jobs_pb2, segmentation_pb2
from tests.fuzz.broken import Broken
from tests.fuzz.harnesses.bodies import IMAGE_ID as ANY_ID
from tests.fuzz.harnesses.bodies import make_messages
from tests.fuzz.harnesses.frontends import make_infer_message
from tests.fuzz.harnesses.pictures import png_seeds
from tests.fuzz.mutate import INTERESTING, mutate
from tests.fuzz.mutators.mutator import HANG_S, Mutator, check_secrets
from tests.fuzz.service import FILE_PLACEHOLDER, IMAGE_ID, JOB_PLACEHOLDER, FuzzedService, make_stack

# How a method is called, whatever it is defined as: (requests, answers).
FORMS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
# Streams of answers are read so far; WatchJob of a running job does not end.
MAX_ANSWERS = 50
STREAM_S = 1.0
# A call with these codes was refused as it should be, or its stream was left.
REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.ABORTED, grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.CANCELLED,
}  # fmt: skip
# A client that expects one answer waits for the end of a stream that has none.
WRONG_FORM_TIMEOUT_S = 3.0
RAW = "raw"  # in place of a method: bytes for the socket
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def list_methods() -> dict[str, tuple[str, Any]]:
    """Return (form, class of the request) of each method, by its path."""
    methods: dict[str, tuple[str, Any]] = {}
    modules = (segmentation_pb2, files_pb2, jobs_pb2, inference_pb2, health_pb2, reflection_pb2)
    for module in modules:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                form = FORMS[2 * method.client_streaming + method.server_streaming]
                request = getattr(module, method.input_type.name)
                methods[f"/{service.full_name}/{method.name}"] = (form, request)
    return methods


def encode_input(path: str, form: str, messages: list[bytes]) -> bytes:
    parts = b"".join(struct.pack("<I", len(message)) + message for message in messages)
    return path.encode("latin-1", "replace") + b"\n" + bytes([FORMS.index(form)]) + parts


def decode_input(data: bytes) -> tuple[str, str, list[bytes]]:
    path, _, rest = data.partition(b"\n")
    form, at, messages = FORMS[rest[0] % len(FORMS)] if rest else FORMS[0], 1, []
    while at + 4 <= len(rest):
        (length,) = struct.unpack_from("<I", rest, at)
        messages.append(rest[at + 4 : at + 4 + length])
        at += 4 + length
    return path.decode("latin-1"), form, messages


class GrpcMutator(Mutator):
    """`GrpcMutator` makes one call."""

    name = "grpc"

    def __init__(self) -> None:
        self._methods = list_methods()
        self._valid = list_valid_messages()

    def make(self, rng: random.Random) -> bytes:
        if rng.random() < 0.05:
            return make_raw(rng)
        path = rng.choice(list(self._methods))
        form, message_class = self._methods[path]
        count = rng.choice((1, 1, 1, 2, 5)) if form.startswith("stream") else 1
        messages = [self._make_message(rng, message_class) for _ in range(count)]
        if rng.random() < 0.1:
            form = rng.choice(FORMS)
            messages *= rng.choice((0, 1, 2, 100 if len(messages[0]) < 10_000 else 3))
        if rng.random() < 0.03:
            path = mutate(rng, path.encode(), changes=2).decode("latin-1").replace("\n", "")
        return encode_input(path, form, messages)

    def _make_message(self, rng: random.Random, message_class: Any) -> bytes:
        valid = self._valid.get(message_class.DESCRIPTOR.name)
        data: bytes = (
            rng.choice(valid) if valid and rng.random() < 0.7 else make_random(rng, message_class, 0)
        )
        if rng.random() < 0.5:
            data = mutate(rng, data, changes=3)
        if rng.random() < 0.05:  # a field that is repeated very often: an empty message, or a number
            tag = rng.choice((b"\x1a\0", b"\x0a\0", b"\x08\1", b"\x12\2\x0a\0"))
            data += tag * rng.choice((1000, 100_000, 400_000))
        return data

    def run(self, data: bytes, service: FuzzedService) -> str:
        data = service.fill_in(data)
        if data.startswith(RAW.encode() + b"\n"):
            return send_raw(data.partition(b"\n")[2], service.grpc_target)
        path, form, messages = decode_input(data)
        fits = path not in self._methods or form == self._methods[path][0]
        options = [("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(service.grpc_target, options=options) as channel:
            code, details = call(channel, path, form, messages, HANG_S if fits else WRONG_FORM_TIMEOUT_S)
        check_secrets(details.encode(), service)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and fits:
            raise Broken("hang", path, details)
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED) and code not in REFUSED:
            raise Broken("status", f"{code.name} of {path}", details)
        return str(code.name)


def call(channel: Any, path: str, form: str, messages: list[bytes], timeout_s: float) -> tuple[Any, str]:
    """Return the code and the details of a call. Messages go as they are."""
    requests = iter(messages) if form.startswith("stream") else (messages or [b""])[0]
    try:
        answer = getattr(channel, form)(path)(requests, timeout=timeout_s)
        if form.endswith("stream"):
            read_stream(answer)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    except ValueError:  # a path that the client's own library does not send
        return grpc.StatusCode.CANCELLED, ""
    return grpc.StatusCode.OK, ""


def read_stream(answers: Any) -> None:
    """Read some answers, and leave a stream that goes on."""
    timer = threading.Timer(STREAM_S, answers.cancel)
    timer.start()
    try:
        for index, _ in enumerate(answers):
            if index > MAX_ANSWERS:
                answers.cancel()
                break
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.CANCELLED:
            raise
    finally:
        timer.cancel()


def send_raw(data: bytes, target: str) -> str:
    """Send bytes to the port, and wait until it closes or is silent."""
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=1) as link:
        try:
            link.sendall(data)
            while link.recv(1 << 16):
                pass
        except TimeoutError:
            return "silent"
        except OSError:
            return "reset"
    return "closed"


def make_raw(rng: random.Random) -> bytes:
    """Return an input of frames of HTTP/2 that break its rules."""
    data = b"" if rng.random() < 0.1 else PREFACE
    for _ in range(rng.choice((1, 3, 10, 200))):
        payload = rng.choice(
            (b"", rng.randbytes(8), bytes(6), b"\x82\x86\x84" + rng.randbytes(20), bytes(16384))
        )
        length = rng.choice((len(payload), len(payload), rng.choice(INTERESTING))) & 0xFFFFFF
        kind, flags, stream = (
            rng.randrange(11),
            rng.choice((0, 1, 4, 5, 0xFF)),
            rng.choice((0, 1, 2, 3, 0x7FFFFFFF)),
        )
        data += length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    return RAW.encode() + b"\n" + data


def list_valid_messages() -> dict[str, list[bytes]]:
    """Return messages that are accepted, by the name of their class."""
    picture, image = next(iter(png_seeds())), IMAGE_ID.encode()
    upload = segmentation_pb2.UploadImageRequest
    messages: list[Any] = [
        *make_messages(),
        upload(chunk=picture),
        make_infer_message(),
        inference_pb2.ModelMetadataRequest(name="starter", version="1"),
        upload(options=segmentation_pb2.ReadOptions(page=0), model="starter"),
        files_pb2.UploadFileRequest(chunk=make_stack()),
        *(getattr(segmentation_pb2, f"{verb}Request")(image_id=IMAGE_ID) for verb in ("GetImage", "GetEmbedding")),
        files_pb2.GetFileRequest(file_id=FILE_PLACEHOLDER.decode()),
        *(getattr(jobs_pb2, f"{verb}Request")(job_id=JOB_PLACEHOLDER.decode())
          for verb in ("GetJob", "WatchJob", "ReadResults", "CancelJob", "RetryJob")),
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="segserve.v1.JobService"),
        health_pb2.HealthCheckRequest(service="segserve.v1.JobService"),
    ]  # fmt: skip
    valid: dict[str, list[bytes]] = {}
    for message in messages:
        data = message.SerializeToString().replace(ANY_ID.encode(), image)
        valid.setdefault(message.DESCRIPTOR.name, []).append(data)
    return valid


def make_random(rng: random.Random, message_class: Any, depth: int) -> bytes:
    """Return a message with random values in random fields of its definition."""
    return b"".join(make_fields(rng, message_class.DESCRIPTOR, depth))


def make_fields(rng: random.Random, descriptor: Any, depth: int) -> Iterator[bytes]:
    for field in descriptor.fields:
        count = rng.choice((0, 1, 1, 2, 20)) if field.is_repeated else rng.choice((0, 1, 1))
        for _ in range(count if depth < 5 else 0):
            if field.message_type is not None:
                yield length_delimited(
                    field.number, b"".join(make_fields(rng, field.message_type, depth + 1))
                )
            elif field.type in (field.TYPE_STRING, field.TYPE_BYTES):
                text = rng.choice(
                    (b"", b"a", IMAGE_ID.encode(), b"starter", b"\xff\xfe", b"x" * 9000, JOB_PLACEHOLDER)
                )
                yield length_delimited(field.number, text)
            elif field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT):
                value = rng.choice((0.0, -1.0, 0.5, 1e308, float("nan"), float("inf"), 5.0))
                wire, form = (1, "<d") if field.type == field.TYPE_DOUBLE else (5, "<f")
                value = value if form == "<d" or abs(value) < 1e30 else 1e30
                yield varint(field.number << 3 | wire) + struct.pack(form, value)
            else:
                yield varint(field.number << 3) + varint(rng.choice((0, 1, 2, 3, rng.choice(INTERESTING))))


def length_delimited(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
