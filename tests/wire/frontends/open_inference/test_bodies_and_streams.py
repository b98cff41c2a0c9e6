"""Compressed bodies count while they are unpacked, and a stream goes on after any error."""

import asyncio
import gzip
import threading
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

        async def _infer(self, request: pb.ModelInferRequest, wrap: Any) -> bytes:
            if request.id == "bad":
                raise RuntimeError("/etc/secret")
            written: bytes = wrap(pb.ModelInferResponse(id=request.id)).SerializeToString()
            return written

    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        for name in ("bad", "good"):
            yield pb.ModelInferRequest(id=name)

    async def run() -> list[Any]:
        return [answer async for answer in Broken().ModelStreamInfer(requests(), None)]

    bad, written = asyncio.run(run())
    good = pb.ModelStreamInferResponse.FromString(written)
    assert bad.infer_response.id == "bad"
    assert bad.error_message == "Something went wrong here."
    assert good.infer_response.id == "good"
    assert not good.error_message


def test_answers_are_written_off_the_event_loop() -> None:
    threads: list[int] = []

    class Writing:
        async def run(self, asked: Any, write: Any) -> bytes:
            def note(tensors: list[Any]) -> bytes:
                threads.append(threading.get_ident())
                written: bytes = write(tensors)
                return written

            return await asyncio.to_thread(note, [])

    class Quick(OpenInferenceService):
        def __init__(self) -> None:
            self._inference: Any = Writing()

    async def run() -> tuple[Any, Any]:
        async def requests() -> AsyncIterator[pb.ModelInferRequest]:
            yield pb.ModelInferRequest(id="s")

        single = await Quick().ModelInfer(pb.ModelInferRequest(id="m"), None)
        return single, [answer async for answer in Quick().ModelStreamInfer(requests(), None)]

    single, [streamed] = asyncio.run(run())
    # Bytes, which gRPC sends as they are: nothing is left to write on the event loop.
    assert pb.ModelInferResponse.FromString(single).id == "m"
    assert pb.ModelStreamInferResponse.FromString(streamed).infer_response.id == "s"
    assert len(threads) == 2
    assert threading.get_ident() not in threads
