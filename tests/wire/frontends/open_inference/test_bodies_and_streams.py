"""Compressed bodies count while they are unpacked, and a stream goes on after any error."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest

from segserve.concurrency_limit import ConcurrencyLimit
from segserve.errors import Busy, TooLarge
from segserve.inference import inference_pb2 as pb
from segserve.types import MB
from segserve.wire.frontends.open_inference.grpc_service import OpenInferenceService
from segserve.wire.frontends.open_inference.http_tensors import unpack_body

BODY = bytes(10 * MB)


def unpack(memory: ConcurrencyLimit, max_bytes: int) -> bytes:
    async def run() -> bytes:
        async with unpack_body(gzip.compress(BODY, 1), "gzip", max_bytes, memory) as body:
            with pytest.raises(Busy):  # it is counted while it is used
                memory.acquire(memory.max_slots)
            return bytes(body)

    return asyncio.run(run())


def test_an_unpacked_body_counts_as_long_as_it_is_used() -> None:
    memory = ConcurrencyLimit(16, "Full.")
    assert unpack(memory, 32 * MB) == BODY
    memory.acquire(16)  # all of it was given back


def test_a_body_that_unpacks_to_more_than_is_free_is_refused() -> None:
    memory = ConcurrencyLimit(8, "Full.")
    with pytest.raises(Busy):
        unpack(memory, 32 * MB)
    memory.acquire(8)


def test_a_body_over_its_own_limit_is_refused() -> None:
    memory = ConcurrencyLimit(64, "Full.")
    with pytest.raises(TooLarge):
        unpack(memory, 5 * MB)
    memory.acquire(64)


def test_a_stream_goes_on_after_an_error_that_nobody_knows() -> None:
    class Broken(OpenInferenceService):
        def __init__(self) -> None: ...

        async def _infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
            if request.id == "bad":
                raise RuntimeError("/etc/secret")
            return pb.ModelInferResponse(id=request.id)

    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        for name in ("bad", "good"):
            yield pb.ModelInferRequest(id=name)

    async def run() -> list[Any]:
        return [answer async for answer in Broken().ModelStreamInfer(requests(), None)]

    bad, good = asyncio.run(run())
    assert bad.infer_response.id == "bad"
    assert bad.error_message == "Something went wrong here."
    assert good.infer_response.id == "good"
    assert not good.error_message
