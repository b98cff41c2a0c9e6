"""The API's client of the encoder workers."""

import json
import time
from functools import cached_property
from typing import Any

import grpc
from grpc import StatusCode

from segserve.app import MB
from segserve.encode.encoder import EncodeRequest
from segserve.timing import Timings
from segserve.v1 import encoder_pb2, encoder_pb2_grpc
from segserve.wire.grpc.convert import options_message
from segserve.wire.grpc.errors import from_worker

# Encoding is idempotent: what one worker could not do another may.
RETRIED = {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.CANCELLED}
OPTIONS = [
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.max_receive_message_length", 256 * MB),
    ("grpc.max_send_message_length", 512 * MB),
    ("grpc.keepalive_time_ms", 10_000),  # a worker whose machine is gone is noticed
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),  # as many as a long encode takes
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class RemoteEncoder:
    """url: a gRPC target: dns:///encoder:8010 for all addresses of a name, ipv4:10.0.0.1:8010,10.0.0.2:8010 for
    some. Calls go to the workers in turn; what fails on one is tried once on another."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s

    @cached_property
    def _channel(self) -> Any:
        return grpc.aio.insecure_channel(self._url, options=OPTIONS)  # belongs to the loop that runs now

    @cached_property
    def _stub(self) -> Any:
        return encoder_pb2_grpc.EncoderServiceStub(self._channel)

    async def encode(self, wanted: EncodeRequest, timings: Timings) -> bytes:
        request = encoder_pb2.EncodeRequest(
            tenant=wanted.tenant,
            image_id=wanted.image_id,
            model=wanted.model,
            digest=wanted.digest,
            priority=f"PRIORITY_{wanted.priority.name}",
        )
        if wanted.image is not None:
            request.image.data = wanted.image.data
            request.image.options.CopyFrom(options_message(wanted.image.options))
        if (region := wanted.region) is not None:
            request.region.x, request.region.y = region.x, region.y
            request.region.width, request.region.height = region.width, region.height
        with timings.stage("encode"):
            return await self._call(request, wanted)

    async def _call(self, request: encoder_pb2.EncodeRequest, wanted: EncodeRequest) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        for last in (False, True):
            left = max(0.0, deadline - time.monotonic())
            try:
                answer = await self._stub.Encode(request, timeout=left, wait_for_ready=True)
                return bytes(answer.embedding)
            except grpc.aio.AioRpcError as error:
                if last or error.code() not in RETRIED:
                    raise from_worker(error.code(), error.details() or "", wanted.image_id) from error
        raise AssertionError("the loop returns or raises")

    async def close(self) -> None:
        await self._channel.close()
