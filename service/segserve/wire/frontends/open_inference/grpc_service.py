"""The gRPC service of the protocol."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeAlias

import structlog

from segserve.app import Service
from segserve.errors import BadInput, SegserveError
from segserve.inference import inference_pb2, inference_pb2_grpc
from segserve.wire.frontends.open_inference import describe
from segserve.wire.frontends.open_inference.infer import Inference, InferRequest, find_bundle
from segserve.wire.frontends.open_inference.model_tensors import VERSION
from segserve.wire.frontends.open_inference.statistics import describe_statistics
from segserve.wire.frontends.open_inference.tensors import (
    BYTES,
    Tensor,
    bad_tensor,
    bytes_tensor,
    check_shape,
    from_bytes,
    from_list,
    to_bytes,
)
from segserve.wire.frontends.sent_images import SentImages

log = structlog.get_logger(__name__)

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types
Message: TypeAlias = Any  # google.protobuf.message.Message

SERVICE = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
# The field of InferTensorContents that holds the values of a type.
CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


class OpenInferenceService(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Every method converts the request, calls what REST calls too, and converts the answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._inference = Inference(service, SentImages(service))

    async def ServerLive(
        self, request: inference_pb2.ServerLiveRequest, context: Context
    ) -> inference_pb2.ServerLiveResponse:
        return inference_pb2.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: inference_pb2.ServerReadyRequest, context: Context
    ) -> inference_pb2.ServerReadyResponse:
        status, _ = await self._service.check_readiness()
        return inference_pb2.ServerReadyResponse(ready=status != "unavailable")

    async def ModelReady(
        self, request: inference_pb2.ModelReadyRequest, context: Context
    ) -> inference_pb2.ModelReadyResponse:
        await find_bundle(self._service, request.name, request.version)
        return inference_pb2.ModelReadyResponse(ready=True)

    async def ServerMetadata(
        self, request: inference_pb2.ServerMetadataRequest, context: Context
    ) -> inference_pb2.ServerMetadataResponse:
        return inference_pb2.ServerMetadataResponse(**describe.SERVER)

    async def ModelMetadata(
        self, request: inference_pb2.ModelMetadataRequest, context: Context
    ) -> inference_pb2.ModelMetadataResponse:
        bundle = await find_bundle(self._service, request.name, request.version)
        return inference_pb2.ModelMetadataResponse(**describe.describe_model(bundle))

    async def ModelConfig(
        self, request: inference_pb2.ModelConfigRequest, context: Context
    ) -> inference_pb2.ModelConfigResponse:
        bundle = await find_bundle(self._service, request.name, request.version)
        config = inference_pb2.ModelConfig(**describe.describe_config(bundle))
        return inference_pb2.ModelConfigResponse(config=config)

    async def ModelInfer(self, request: inference_pb2.ModelInferRequest, context: Context) -> bytes:
        return await self._infer(request, lambda answer: answer)

    async def ModelStreamInfer(
        self, requests: AsyncIterator[inference_pb2.ModelInferRequest], context: Context
    ) -> AsyncIterator[inference_pb2.ModelStreamInferResponse | bytes]:
        async for request in requests:
            try:
                answer = await self._infer(
                    request, lambda answer: inference_pb2.ModelStreamInferResponse(infer_response=answer)
                )
            except SegserveError as error:
                failed = inference_pb2.ModelInferResponse(id=request.id)
                yield inference_pb2.ModelStreamInferResponse(error_message=str(error), infer_response=failed)
            except Exception:  # the requests behind it are answered all the same
                log.exception("internal error")
                failed = inference_pb2.ModelInferResponse(id=request.id)
                yield inference_pb2.ModelStreamInferResponse(
                    error_message="Something went wrong here.", infer_response=failed
                )
            else:
                yield answer

    async def ModelStatistics(
        self, request: inference_pb2.ModelStatisticsRequest, context: Context
    ) -> inference_pb2.ModelStatisticsResponse:
        names: Iterable[str] = [request.name]
        if request.name:
            await find_bundle(self._service, request.name, request.version)
        else:
            names = await asyncio.to_thread(self._service.registry.bundles)
        statistics = [describe_statistics(self._service.metrics.frontends, name) for name in names]
        return inference_pb2.ModelStatisticsResponse(model_stats=statistics)

    async def RepositoryIndex(
        self, request: inference_pb2.RepositoryIndexRequest, context: Context
    ) -> inference_pb2.RepositoryIndexResponse:
        registry = self._service.registry
        models = describe.list_repository(registry.names(), await asyncio.to_thread(registry.bundles))
        return inference_pb2.RepositoryIndexResponse(
            models=[model for model in models if not request.ready or model["state"] == "READY"]
        )

    async def _infer(
        self,
        request: inference_pb2.ModelInferRequest,
        wrap: Callable[[inference_pb2.ModelInferResponse], Message],
    ) -> bytes:
        """Return the bytes of the message that `wrap` makes of the answer. They are written in a thread."""
        asked = await asyncio.to_thread(infer_from_message, request)
        return await self._inference.run(
            asked, lambda tensors: wrap(infer_to_message(request, tensors)).SerializeToString()
        )


def infer_from_message(request: inference_pb2.ModelInferRequest) -> InferRequest:
    """Convert a request. Blocks. Raises BadInput."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadInput(
            f"There are {len(raw)} raw_input_contents for {len(request.inputs)} inputs.",
            field="raw_input_contents",
            remedy="Send one for each input, or contents.",
        )
    tensors = [
        from_bytes(tensor.name, tensor.datatype, tensor.shape, raw[i]) if raw else read_contents(tensor)
        for i, tensor in enumerate(request.inputs)
    ]
    return InferRequest(
        request.model_name,
        request.model_version,
        {tensor.name: tensor for tensor in tensors},
        [output.name for output in request.outputs],
        {name: read_parameter(value) for name, value in request.parameters.items()},
    )


def read_parameter(parameter: inference_pb2.InferParameter) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def read_contents(tensor: inference_pb2.ModelInferRequest.InferInputTensor) -> Tensor:
    """Read a tensor whose values are in fields of their own. Raises BadInput."""
    count = check_shape(tensor.name, tensor.datatype, tensor.shape)
    if tensor.datatype not in CONTENTS:  # FP16 has none
        raise bad_tensor(tensor.name, "it has no contents.", "Send raw_input_contents.")
    values = getattr(tensor.contents, CONTENTS[tensor.datatype])
    if tensor.datatype != BYTES:
        return from_list(tensor.name, tensor.datatype, tensor.shape, list(values))
    if len(values) != count:
        raise bad_tensor(tensor.name, f"it has {len(values)} elements, its shape {count}.", "Send as many.")
    return bytes_tensor(tensor.name, list(values), tensor.shape)


def infer_to_message(
    request: inference_pb2.ModelInferRequest, tensors: list[Tensor]
) -> inference_pb2.ModelInferResponse:
    """Convert an answer. Blocks."""
    return inference_pb2.ModelInferResponse(
        model_name=request.model_name,
        model_version=VERSION,
        id=request.id,
        outputs=[
            inference_pb2.ModelInferResponse.InferOutputTensor(
                name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
            )
            for tensor in tensors
        ],
        raw_output_contents=[to_bytes(tensor) for tensor in tensors],
    )
