"""The gRPC skin: convert, call, convert back. Errors, deadlines, logs and metrics are the interceptor's."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeAlias, cast

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from segserve.app import MB, Service
from segserve.encode.encoder import EncodeRequest, ImageBytes
from segserve.errors import BadInput, SegserveError, TooLarge
from segserve.models.promptable_model import PromptableModel
from segserve.temporary_files import translate_disk_full
from segserve.types import DEFAULT_TENANT, ReadOptions
from segserve.v1 import (
    encoder_pb2,
    encoder_pb2_grpc,
    files_pb2,
    files_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
)
from segserve.wire.grpc import convert, convert_automatic, convert_instances, convert_semantic
from segserve.wire.grpc.errors import DETAILS, code_of, status_of
from segserve.wire.grpc.files import Files
from segserve.wire.grpc.jobs import Jobs
from segserve.wire.http.request_body import SPOOL_BYTES
from segserve.wire.operations import automatic, instances, segment, semantic

ANSWER_BYTES = 256 * MB  # many masks as logits are large; what may come in is a setting
HEALTH_CHECK_S = 0.25
CONNECTION_AGE_MS = 300_000
SEGMENTATION = segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"].full_name
ENCODER = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name
FILES = files_pb2.DESCRIPTOR.services_by_name["FileService"].full_name
JOBS = jobs_pb2.DESCRIPTOR.services_by_name["JobService"].full_name

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types

log = structlog.get_logger(__name__)


class Segmentation(segmentation_pb2_grpc.SegmentationServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    async def UploadImage(
        self, requests: AsyncIterator[segmentation_pb2.UploadImageRequest], context: Context
    ) -> segmentation_pb2.UploadImageResponse:
        service, options, model = self._service, ReadOptions(), ""
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            async for request in requests:
                model = request.model or model
                if request.WhichOneof("content") == "options":
                    options = convert.read_options(request.options)
                spool.write(request.chunk)
                if spool.tell() > service.settings.max_image_mb * MB:
                    limit = service.settings.max_image_mb
                    raise TooLarge(
                        f"The image is over {limit} MB.", field="chunk", remedy="Send a smaller one."
                    )
            if not spool.tell():
                raise BadInput("There are no bytes.", field="chunk", remedy="Send the image in chunks.")
            record = await service.images.add(DEFAULT_TENANT, cast(BinaryIO, spool), options)
        if model:
            service.start_encoding(record, await service.registry.get(model, PromptableModel))
        return segmentation_pb2.UploadImageResponse(
            image_id=record.image_id, width=record.size.width, height=record.size.height
        )

    async def GetImage(
        self, request: segmentation_pb2.GetImageRequest, context: Context
    ) -> segmentation_pb2.GetImageResponse:
        record = await self._service.images.record(DEFAULT_TENANT, request.image_id)
        return segmentation_pb2.GetImageResponse(
            image_id=record.image_id, width=record.size.width, height=record.size.height
        )

    async def DeleteImage(
        self, request: segmentation_pb2.DeleteImageRequest, context: Context
    ) -> segmentation_pb2.DeleteImageResponse:
        await self._service.images.delete(DEFAULT_TENANT, request.image_id)
        return segmentation_pb2.DeleteImageResponse()

    async def Segment(
        self, request: segmentation_pb2.SegmentRequest, context: Context
    ) -> segmentation_pb2.SegmentResponse:
        timings = self._service.new_timings()
        asked = convert.segment_in(request)
        answer = await segment.segment(self._service, asked, convert.formatter(asked.format), timings)
        context.set_trailing_metadata((("server-timing", timings.server_timing()),))
        return convert.segment_out(answer)

    async def Automatic(
        self, request: segmentation_pb2.AutomaticRequest, context: Context
    ) -> segmentation_pb2.AutomaticResponse:
        timings = self._service.new_timings()
        asked = convert_automatic.automatic_in(request)
        result_format = asked.root.format
        found = await automatic.find_objects(self._service, asked, timings)
        answer = convert_automatic.found_out(found)
        if result_format in convert_automatic.AS_OBJECTS:
            with timings.stage("format"):
                answer.objects.extend(
                    await asyncio.to_thread(convert_automatic.objects_out, found, result_format)
                )
        else:
            answer.content, answer.media_type = await automatic.write_objects(
                self._service, found, result_format, timings
            )
        context.set_trailing_metadata((("server-timing", timings.server_timing()),))
        return answer

    async def Semantic(
        self, request: segmentation_pb2.SemanticRequest, context: Context
    ) -> segmentation_pb2.SemanticResponse:
        timings = self._service.new_timings()
        asked = convert_semantic.semantic_in(request)
        answer = await semantic.segment_semantic(self._service, asked, timings)
        context.set_trailing_metadata((("server-timing", timings.server_timing()),))
        return convert_semantic.semantic_out(answer)

    async def Instances(
        self, request: segmentation_pb2.InstancesRequest, context: Context
    ) -> segmentation_pb2.InstancesResponse:
        timings = self._service.new_timings()
        asked = convert_instances.instances_in(request)
        _, answer = await instances.find_instances(
            self._service,
            asked,
            lambda found, image: convert_instances.instances_out(found, asked.format, image),
            timings,
        )
        context.set_trailing_metadata((("server-timing", timings.server_timing()),))
        return answer

    async def GetEmbedding(
        self, request: segmentation_pb2.GetEmbeddingRequest, context: Context
    ) -> segmentation_pb2.GetEmbeddingResponse:
        service = self._service
        model = await service.registry.get(request.model or service.settings.default_model, PromptableModel)
        packed = await service.get_packed_embedding(request.image_id, model, service.new_timings())
        return segmentation_pb2.GetEmbeddingResponse(embedding=packed)

    async def ListModels(
        self, request: segmentation_pb2.ListModelsRequest, context: Context
    ) -> segmentation_pb2.ListModelsResponse:
        bundles = await asyncio.to_thread(self._service.registry.bundles)
        models = [segmentation_pb2.Model(**segment.describe(self._service, b)) for b in bundles.values()]
        return segmentation_pb2.ListModelsResponse(models=models)


class Encoding(encoder_pb2_grpc.EncoderServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    async def Encode(
        self, request: encoder_pb2.EncodeRequest, context: Context
    ) -> encoder_pb2.EncodeResponse:
        image = None
        if request.HasField("image"):
            image = ImageBytes(request.image.data, convert.read_options(request.image.options))
        wanted = EncodeRequest(
            request.tenant,
            request.image_id,
            request.model,
            request.digest,
            convert.priority_of(request.priority),
            image,
            convert.region(request.region) if request.HasField("region") else None,
        )
        packed = await self._service.encoder.encode(wanted, self._service.new_timings())
        return encoder_pb2.EncodeResponse(embedding=packed)


class Observe(grpc.aio.ServerInterceptor):
    """Binds a request id to the logs, counts and times, and turns errors into statuses."""

    def __init__(self, service: Service) -> None:
        self._metrics = service.metrics

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        if handler is None or not details.method.startswith("/segserve."):
            return handler
        if handler.unary_stream:

            async def streamed(request: Any, context: Context) -> AsyncIterator[Any]:
                async with self._answering(request, context, details.method):
                    async for message in handler.unary_stream(request, context):
                        yield message

            return grpc.unary_stream_rpc_method_handler(
                streamed, handler.request_deserializer, handler.response_serializer
            )
        inner = handler.unary_unary or handler.stream_unary

        async def observed(request: Any, context: Context) -> Any:
            async with self._answering(request, context, details.method):
                return await inner(request, context)

        wrap = (
            grpc.unary_unary_rpc_method_handler
            if handler.unary_unary
            else grpc.stream_unary_rpc_method_handler
        )
        return wrap(observed, handler.request_deserializer, handler.response_serializer)

    @asynccontextmanager
    async def _answering(self, request: Any, context: Context, method: str) -> AsyncIterator[None]:
        structlog.contextvars.bind_contextvars(request_id=secrets.token_hex(8))
        start, status = time.perf_counter(), grpc.StatusCode.OK
        self._metrics.requests.in_flight.inc()
        try:
            yield
        except SegserveError as error:
            status = code_of(error)
            log.info("refused", code=error.code, field=error.field, reason=error.message)
            details = ((DETAILS, status_of(error).SerializeToString()),)
            await context.abort(status, str(error), details)
        except asyncio.CancelledError:  # the client went away, or its deadline passed
            status = grpc.StatusCode.CANCELLED
            raise
        except Exception:
            status = grpc.StatusCode.INTERNAL
            log.exception("internal error")
            await context.abort(status, "Something went wrong here.")
        finally:
            self._metrics.requests.in_flight.dec()
            seconds = time.perf_counter() - start
            model = getattr(request, "model", "") if status is grpc.StatusCode.OK else ""
            self._metrics.requests.record(method, "gRPC", model, status.name, seconds)
            log.info("request", method="gRPC", path=method, status=status.name, ms=round(1000 * seconds, 1))
            structlog.contextvars.unbind_contextvars("request_id")


@asynccontextmanager
async def serve_grpc(
    service: Service, host: str, port: int, *, worker: bool, grace_s: float
) -> AsyncIterator[int]:
    """A gRPC server while the block runs; yields its port. worker: EncoderService, else all others.
    At the end calls that run get `grace_s` to finish. Raises BadInput where it cannot listen."""
    server = grpc.aio.server(
        interceptors=[Observe(service)],
        maximum_concurrent_rpcs=service.settings.max_in_flight,
        options=[
            ("grpc.max_receive_message_length", service.settings.max_request_mb * MB),
            ("grpc.max_send_message_length", ANSWER_BYTES),
            ("grpc.max_metadata_size", 16 << 10),
            ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a replica
            # Clients look their target's name up again, and so find workers that were added.
            ("grpc.max_connection_age_ms", CONNECTION_AGE_MS),
            ("grpc.max_connection_age_grace_ms", CONNECTION_AGE_MS),
            # Our own client asks every ten seconds whether a long encode's worker is still there.
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ],
    )
    if worker:
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(Encoding(service), server)
    else:
        segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server(Segmentation(service), server)
        files_pb2_grpc.add_FileServiceServicer_to_server(Files(service), server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(Jobs(service), server)
    names = [ENCODER] if worker else [SEGMENTATION, FILES, JOBS]
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        bound = server.add_insecure_port(f"{f'[{host}]' if ':' in host else host}:{port}")
    except RuntimeError as error:
        raise BadInput(
            f"gRPC cannot listen on {host}:{port}: {error}.", field="grpc_port", remedy="Give another port."
        ) from None
    await server.start()
    follow = asyncio.create_task(follow_readiness(service, checks, names))
    try:
        yield bound
    finally:
        follow.cancel()
        await checks.enter_graceful_shutdown()
        await server.stop(grace_s)


async def follow_readiness(service: Service, checks: Any, names: list[str]) -> None:
    """Standard health says what /readyz says."""
    states = health_pb2.HealthCheckResponse
    while True:
        status, _ = await service.readiness()
        serving = states.NOT_SERVING if status == "unavailable" else states.SERVING
        for each in ("", *names):
            await checks.set(each, serving)
        await asyncio.sleep(HEALTH_CHECK_S)
