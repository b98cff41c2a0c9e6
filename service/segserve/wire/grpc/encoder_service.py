"""EncoderService: what encoder workers answer to the API."""

from typing import Any, TypeAlias

from segserve.app import EncodingService
from segserve.v1 import encoder_pb2, encoder_pb2_grpc
from segserve.wire.grpc.convert.encoder import encode_from_message

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types


class EncoderService(encoder_pb2_grpc.EncoderServiceServicer):
    """Encodes images with the models of this process."""

    def __init__(self, service: EncodingService) -> None:
        self._service = service

    async def Encode(
        self, request: encoder_pb2.EncodeRequest, context: Context
    ) -> encoder_pb2.EncodeResponse:
        timings = self._service.new_timings()
        packed = await self._service.encoder.encode(encode_from_message(request), timings)
        return encoder_pb2.EncodeResponse(
            embedding=packed, encoder_seconds=timings.encoder_s, stage_seconds=timings.seconds
        )
