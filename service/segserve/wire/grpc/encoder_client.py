"""The API's gRPC client of the encoder workers."""

import asyncio
import json
import time
from typing import Any

import grpc
from grpc import StatusCode

from segserve.encode.encode_request import EncodeRequest
from segserve.timing import Timings
from segserve.types import MB
from segserve.v1 import encoder_pb2, encoder_pb2_grpc
from segserve.wire.grpc.convert.encoder import encode_to_message
from segserve.wire.grpc.errors import worker_error
from segserve.wire.grpc.tls import create_channel_credentials
from segserve.wire.tls_files import CertificateFiles

# Encoding is idempotent. If one worker cannot do it, another may.
RETRIED_CODES = {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.CANCELLED}
# Workers whose health says that they do not serve get no calls: their models load, or they are about to stop.
SERVICE_CONFIG = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
CHANNEL_OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # Where workers were replaced, their name has other addresses. gRPC would not look again for 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.max_receive_message_length", 256 * MB),
    ("grpc.max_send_message_length", 512 * MB),
    ("grpc.keepalive_time_ms", 10_000),  # detects a worker whose machine is gone
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),  # no limit: an encode may take long
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class RemoteEncoder:
    """An `Encoder` whose workers run in other processes. Calls go to the workers in turn (round robin). A call that
    fails on one worker is tried once on another.

    url: a gRPC target. dns:///encoder:8010 is every address of a name, ipv4:10.0.0.1:8010,10.0.0.2:8010 a list.
    timeout_s: for both tries together.
    tls_files: the workers' authorities, and the certificate that they are shown; None connects without TLS.
    """

    def __init__(self, url: str, timeout_s: float, tls_files: CertificateFiles | None = None) -> None:
        self._url, self._timeout_s, self._tls_files = url, timeout_s, tls_files
        self._channel: Any = None
        self._version = 0  # of the certificates that the channel was opened with
        self._closing: set[asyncio.Task[None]] = set()

    def _open_stub(self) -> Any:
        """Return a stub on a channel, which is another one when the certificates have changed.

        Opened at the first call: a channel belongs to the event loop that is running then.
        """
        certificates = None if self._tls_files is None else self._tls_files.current()
        version = certificates.version if certificates else 0
        if self._channel is not None and version != self._version:
            self._close_later(self._channel)
            self._channel = None
        if self._channel is None:
            self._version = version
            if certificates is None:
                self._channel = grpc.aio.insecure_channel(self._url, options=CHANNEL_OPTIONS)
            else:
                credentials = create_channel_credentials(certificates)
                self._channel = grpc.aio.secure_channel(self._url, credentials, options=CHANNEL_OPTIONS)
        return encoder_pb2_grpc.EncoderServiceStub(self._channel)

    def _close_later(self, channel: Any) -> None:
        """Close a channel once its running calls have ended."""
        task = asyncio.get_running_loop().create_task(channel.close(grace=self._timeout_s))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def encode(self, request: EncodeRequest, timings: Timings) -> bytes:
        """Return the packed embedding, and add the worker's stages to the timings. Raises as `worker_error` says.

        What the worker does not account for is the stage "wait": for a worker, for the network, or for another request
        that began the same image.
        """
        message = encode_to_message(request)
        start = time.perf_counter()
        try:
            answer = await self._call(message, request.image_id)
        except BaseException:
            timings.add("wait", time.perf_counter() - start)
            raise
        add_stages(timings, answer, time.perf_counter() - start)
        return bytes(answer.embedding)

    def is_reachable(self) -> bool:
        """Return whether a worker can be called, as far as the channel knows; it looks for one meanwhile.

        A channel that connects for the first time is not known to fail. One that failed says so until a worker serves.
        """
        self._open_stub()
        state = self._channel.get_state(try_to_connect=True)
        return state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def _call(self, message: encoder_pb2.EncodeRequest, image_id: str) -> encoder_pb2.EncodeResponse:
        deadline = time.monotonic() + self._timeout_s
        for is_last in (False, True):
            left_s = max(0.0, deadline - time.monotonic())
            try:
                answer: encoder_pb2.EncodeResponse = await self._open_stub().Encode(
                    message, timeout=left_s, wait_for_ready=True
                )
                return answer
            except grpc.aio.AioRpcError as error:
                if is_last or error.code() not in RETRIED_CODES:
                    raise worker_error(error.code(), error.details() or "", image_id) from error
        raise AssertionError("the loop returns or raises")

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        await asyncio.gather(*self._closing)


def add_stages(timings: Timings, answer: encoder_pb2.EncodeResponse, seconds: float) -> None:
    """Add the stages of a call that took so many seconds."""
    if not answer.HasField("encoder_seconds"):  # a worker of an older version says nothing
        timings.add("encode", seconds)
        timings.encoder_s += seconds
        return
    stages = dict(answer.stage_seconds)
    rest_s = max(0.0, seconds - sum(stages.values()))
    timings.add("wait", stages.pop("wait", 0.0) + rest_s)
    for stage, stage_s in stages.items():
        timings.add(stage, stage_s)
    timings.encoder_s += answer.encoder_seconds
