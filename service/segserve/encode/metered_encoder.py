"""Usage of an encoder, counted for the tenant whose image it is."""

from segserve.encode.encode_request import Encoder, EncodeRequest
from segserve.metrics import Metrics
from segserve.timing import Timings
from segserve.types import UsageKind


class MeteredEncoder:
    """`MeteredEncoder` is an `Encoder` that counts what another one encodes.

    An image that several requests wait for counts for the one that began it.
    """

    def __init__(self, encoder: Encoder, metrics: Metrics) -> None:
        self._encoder, self._metrics = encoder, metrics

    async def encode(self, request: EncodeRequest, timings: Timings) -> bytes:
        before_s = timings.encoder_s
        packed = await self._encoder.encode(request, timings)
        seconds = timings.encoder_s - before_s
        if seconds > 0:
            self._metrics.usage.count(request.tenant, UsageKind.ENCODED_IMAGES)
            self._metrics.usage.count(request.tenant, UsageKind.ENCODE_SECONDS, seconds)
        return packed

    def is_reachable(self) -> bool:
        return self._encoder.is_reachable()

    async def close(self) -> None:
        await self._encoder.close()
