"""Counts the images that a process waits to have encoded, wherever that happens."""

from segserve.encode.encode_request import Encoder, EncodeRequest
from segserve.metrics import Metrics
from segserve.timing import Timings


class CountedEncoder:
    """`CountedEncoder` is an `Encoder` that says in the metrics how many images are waited for.

    With encoder workers this is the demand for them, also while none of them runs.
    """

    def __init__(self, encoder: Encoder, metrics: Metrics) -> None:
        self._encoder, self._metrics = encoder, metrics

    async def encode(self, request: EncodeRequest, timings: Timings) -> bytes:
        """Return the packed embedding. Raises what the encoder raises."""
        with self._metrics.encoding.wait_for_encode(request.priority):
            return await self._encoder.encode(request, timings)

    def is_reachable(self) -> bool:
        return self._encoder.is_reachable()

    async def close(self) -> None:
        await self._encoder.close()
