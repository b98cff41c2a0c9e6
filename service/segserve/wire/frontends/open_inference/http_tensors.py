"""Requests and answers over HTTP: JSON, and tensors as bytes behind it (the binary data extension)."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import Field

from segserve.concurrency_limit import ConcurrencyLimit
from segserve.current_client import current_client
from segserve.errors import BadInput, TooLarge, UnsupportedFormat
from segserve.types import MB
from segserve.wire.frontends.json_body import ClientBody, parse_body
from segserve.wire.frontends.open_inference import model_tensors as specs
from segserve.wire.frontends.open_inference.infer import InferRequest
from segserve.wire.frontends.open_inference.model_tensors import VERSION
from segserve.wire.frontends.open_inference.tensors import (
    BYTES,
    Tensor,
    bytes_tensor,
    from_bytes,
    from_list,
    to_bytes,
    to_list,
)
from segserve.wire.frontends.sent_images import decode_base64

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
# Values in JSON: an image of a megapixel. Python takes up to 64 bytes for each.
MAX_JSON_VALUES = 1 << 22
MAX_TENSORS = 64
# zlib's windows: of gzip, and of deflate with its own header.
WINDOWS = {"gzip": 31, "deflate": 15}
# A compressed body is unpacked in such parts, each counted before it is made.
UNPACKED_PART_MB = 4


class TensorIn(ClientBody):
    name: str = Field(max_length=128)
    datatype: str = Field(max_length=16)
    shape: list[int] = Field(max_length=16)
    parameters: dict[str, Any] = Field({})
    data: list[Any] | None = None


class OutputIn(ClientBody):
    name: str = Field(max_length=128)
    parameters: dict[str, Any] = Field({})


class InferIn(ClientBody):
    id: str = Field("", max_length=256)
    parameters: dict[str, Any] = Field({})
    inputs: list[TensorIn] = Field(max_length=MAX_TENSORS)
    outputs: list[OutputIn] = Field([], max_length=MAX_TENSORS)


@dataclass(frozen=True)
class HttpRequest:
    """An inference, and how its answer is written. binary_outputs: by name; others as `is_binary` says."""

    id: str
    infer: InferRequest
    binary_outputs: Mapping[str, bool]
    is_binary: bool


def read_request(body: bytes | bytearray, model: str, version: str, json_length: str | None) -> HttpRequest:
    """Read a request. Blocks.

    body: unpacked. json_length: the header that says how much of it is JSON.

    Raises BadInput, TooLarge, RequestValidationError.
    """
    length = parse_length(json_length, len(body))
    parsed = parse_body(bytes(memoryview(body)[:length]), InferIn, MAX_JSON_VALUES)
    inputs, rest = {}, memoryview(body)[length:]
    for tensor in parsed.inputs:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            inputs[tensor.name] = read_json_tensor(tensor)
            continue
        if not isinstance(size, int) or not 0 <= size <= len(rest):
            raise BadInput(
                f"Tensor {tensor.name!r}: the body has not as many bytes as binary_data_size says.",
                field=tensor.name,
                remedy=f"Send the bytes behind the JSON, and its length in {JSON_LENGTH_HEADER}.",
            )
        inputs[tensor.name] = from_bytes(tensor.name, tensor.datatype, tensor.shape, rest[:size])
        rest = rest[size:]
    return HttpRequest(
        parsed.id,
        InferRequest(model, version, inputs, [output.name for output in parsed.outputs], parsed.parameters),
        {
            output.name: output.parameters["binary_data"] is True
            for output in parsed.outputs
            if "binary_data" in output.parameters
        },
        parsed.parameters.get("binary_data_output") is True,
    )


def read_json_tensor(tensor: TensorIn) -> Tensor:
    if tensor.data is None:
        raise BadInput(
            f"Tensor {tensor.name!r} has no data.",
            field=tensor.name,
            remedy="Send data, or the parameter binary_data_size and bytes behind the JSON.",
        )
    read = from_list(tensor.name, tensor.datatype, tensor.shape, tensor.data)
    if tensor.name == specs.IMAGE_FILE.name and tensor.datatype == BYTES:  # JSON holds no bytes
        files = [decode_base64(text.decode(), tensor.name) for text in read.values.ravel()]
        return bytes_tensor(tensor.name, files, tensor.shape)
    return read


def parse_length(header: str | None, body_bytes: int) -> int:
    if header is None:
        return body_bytes
    if not header.isdecimal() or len(header) > 12 or int(header) > body_bytes:
        raise BadInput(
            "The JSON is not as long as the header says.",
            field=JSON_LENGTH_HEADER,
            remedy=f"Send the JSON's length in bytes; the body has {body_bytes}.",
        )
    return int(header)


@asynccontextmanager
async def unpack_body(
    body: bytes, encoding: str, max_bytes: int, memory: ConcurrencyLimit
) -> AsyncIterator[bytes | bytearray]:
    """Yield a body as it was before it was compressed. It counts in `memory`, in MB, while the block runs.

    encoding: the header Content-Encoding. max_bytes: of an unpacked body.

    Raises BadInput, TooLarge, UnsupportedFormat, Busy.
    """
    if encoding in ("", "identity"):
        yield body
        return
    if encoding not in WINDOWS:
        raise UnsupportedFormat(
            "The body's encoding is not read.", field="content-encoding", remedy="Send gzip or deflate."
        )
    client, held_mb, unpacked = current_client.get(), 0, bytearray()
    unpacker = zlib.decompressobj(WINDOWS[encoding])
    try:
        packed = body
        while packed and not unpacker.eof:
            memory.acquire(UNPACKED_PART_MB, client)
            held_mb += UNPACKED_PART_MB
            unpacked += await asyncio.to_thread(unpack_part, unpacker, packed, encoding)
            packed = unpacker.unconsumed_tail
            if len(unpacked) > max_bytes:
                raise TooLarge(
                    f"The body unpacks to over {max_bytes / MB:g} MB.",
                    field="body",
                    remedy="Send less at once.",
                )
        if not unpacker.eof:
            raise BadInput("The body is cut off.", field="body", remedy="Send all of it.")
        yield unpacked
    finally:
        memory.release(held_mb, client)


def unpack_part(unpacker: "zlib._Decompress", packed: bytes, encoding: str) -> bytes:
    """Return the next part of a compressed body, up to UNPACKED_PART_MB. Blocks. Raises BadInput."""
    try:
        return unpacker.decompress(packed, UNPACKED_PART_MB * MB)
    except zlib.error:
        raise BadInput(
            f"The body is not {encoding}.", field="content-encoding", remedy="Send it as the header says."
        ) from None


def write_answer(request: HttpRequest, tensors: list[Tensor]) -> tuple[bytes, int | None]:
    """Return the body, and how much of it is JSON; None where all is. Raises TooLarge."""
    outputs, parts = [], []
    for tensor in tensors:
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if request.binary_outputs.get(tensor.name, request.is_binary):
            parts.append(to_bytes(tensor))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        elif tensor.values.size > MAX_JSON_VALUES:
            raise TooLarge(
                f"Tensor {tensor.name!r} has {tensor.values.size} values, too many for JSON.",
                field="outputs",
                remedy="Ask for it with the parameter binary_data, or for all with binary_data_output.",
            )
        else:
            output["data"] = to_list(tensor)
        outputs.append(output)
    answer = {"model_name": request.infer.model, "model_version": VERSION, "outputs": outputs}
    head = orjson.dumps({**answer, "id": request.id} if request.id else answer)
    return b"".join((head, *parts)), len(head) if parts else None
