"""SegmentationService: images, the five operations on them, embeddings and models."""

import asyncio
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeAlias, cast

from segserve.app import Service
from segserve.errors import BadInput, TooLarge
from segserve.identity.identity import current_tenant
from segserve.models.promptable_model import PromptableModel
from segserve.temporary_files import translate_disk_full
from segserve.timing import Timings
from segserve.types import MB, ReadOptions
from segserve.v1 import segmentation_pb2, segmentation_pb2_grpc
from segserve.wire.grpc.convert import segment as convert_segment
from segserve.wire.grpc.convert.automatic import automatic_from_message, automatic_to_message
from segserve.wire.grpc.convert.images import read_options_from_message
from segserve.wire.grpc.convert.instances import instances_from_message, instances_to_message
from segserve.wire.grpc.convert.objects import MESSAGE_FORMATS
from segserve.wire.grpc.convert.semantic import semantic_from_message, semantic_to_message
from segserve.wire.grpc.convert.similar import similar_from_message, similar_to_message
from segserve.wire.grpc.large_answers import write_in_thread
from segserve.wire.grpc.message_structure import convert_message
from segserve.wire.http.limits import MAX_EVENT_LOOP_MASKS, SPOOL_BYTES
from segserve.wire.operations import automatic, instances, segment, semantic, similar
from segserve.wire.operations.hints import add_page_hints
from segserve.wire.operations.models import describe_model
from segserve.wire.results.image import image_to_json

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types


def send_timings(context: Context, timings: Timings) -> None:
    """Send the timings as REST's header Server-Timing."""
    context.set_trailing_metadata((("server-timing", timings.server_timing()),))


class SegmentationService(segmentation_pb2_grpc.SegmentationServiceServicer):
    """Every method converts the request, calls what REST calls too, and converts the answer."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def UploadImage(
        self, requests: AsyncIterator[segmentation_pb2.UploadImageRequest], context: Context
    ) -> segmentation_pb2.UploadImageResponse:
        service, options, model = self._service, ReadOptions(), ""
        limit = service.settings.max_image_mb
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            async for request in requests:
                model = request.model or model
                if request.WhichOneof("content") == "options":
                    options = read_options_from_message(request.options)
                spool.write(request.chunk)
                if spool.tell() > limit * MB:
                    raise TooLarge(
                        f"The image is over {limit} MB.", field="chunk", remedy="Send a smaller one."
                    )
            request = segmentation_pb2.UploadImageRequest()  # the last chunk may take megabytes
            if not spool.tell():
                raise BadInput("There are no bytes.", field="chunk", remedy="Send the image in chunks.")
            record = await service.images.add(current_tenant(), cast(BinaryIO, spool), options)
        if model:
            service.start_encoding(record, await service.registry.get(model, PromptableModel))
        return segmentation_pb2.UploadImageResponse(**image_to_json(record))

    async def GetImage(
        self, request: segmentation_pb2.GetImageRequest, context: Context
    ) -> segmentation_pb2.GetImageResponse:
        record = await self._service.images.get_record(current_tenant(), request.image_id)
        return segmentation_pb2.GetImageResponse(**image_to_json(record))

    async def DeleteImage(
        self, request: segmentation_pb2.DeleteImageRequest, context: Context
    ) -> segmentation_pb2.DeleteImageResponse:
        await self._service.images.delete(current_tenant(), request.image_id)
        return segmentation_pb2.DeleteImageResponse()

    async def Segment(
        self, request: segmentation_pb2.SegmentRequest, context: Context
    ) -> segmentation_pb2.SegmentResponse | bytes:
        timings = self._service.new_timings()
        body = await convert_message(convert_segment.segment_from_message, request)
        render = convert_segment.create_renderer(body.format, body.tolerance)
        result = await segment.segment(self._service, body, render, timings)
        send_timings(context, timings)
        if result.mask_count <= MAX_EVENT_LOOP_MASKS:
            return convert_segment.segment_to_message(result)
        return await write_in_thread(lambda: convert_segment.segment_to_message(result))

    async def Automatic(self, request: segmentation_pb2.AutomaticRequest, context: Context) -> bytes:
        timings = self._service.new_timings()
        body = await convert_message(automatic_from_message, request)
        result_format = body.root.format
        result = await automatic.find_objects(self._service, body, timings)
        result = await add_page_hints(self._service, result)
        content = None
        if result_format not in MESSAGE_FORMATS:
            content = await automatic.write_objects(self._service, result, result_format, timings)
        tolerance = body.root.tolerance
        with timings.stage("format"):
            answer = await write_in_thread(
                lambda: automatic_to_message(result, content, result_format, tolerance)
            )
        send_timings(context, timings)
        return answer

    async def Similar(self, request: segmentation_pb2.SimilarRequest, context: Context) -> bytes:
        timings = self._service.new_timings()
        body = await convert_message(similar_from_message, request)
        result = await similar.find_similar(self._service, body, timings)
        result = await add_page_hints(self._service, result)
        content = None
        if body.format not in MESSAGE_FORMATS:
            content = await automatic.write_objects(self._service, result, body.format, timings)
        with timings.stage("format"):
            answer = await write_in_thread(
                lambda: similar_to_message(result, content, body.format, body.tolerance)
            )
        send_timings(context, timings)
        return answer

    async def Semantic(self, request: segmentation_pb2.SemanticRequest, context: Context) -> bytes:
        timings = self._service.new_timings()
        body = await convert_message(semantic_from_message, request)
        answer = await semantic.segment_semantic(self._service, body, timings)
        send_timings(context, timings)
        return await write_in_thread(lambda: semantic_to_message(answer))

    async def Instances(self, request: segmentation_pb2.InstancesRequest, context: Context) -> bytes:
        timings = self._service.new_timings()
        body = await convert_message(instances_from_message, request)
        _, answer = await instances.find_instances(
            self._service,
            body,
            lambda result, image: instances_to_message(result, body.format, image, body.tolerance),
            timings,
        )
        send_timings(context, timings)
        return await write_in_thread(lambda: answer)

    async def GetEmbedding(self, request: segmentation_pb2.GetEmbeddingRequest, context: Context) -> bytes:
        service = self._service
        model = await service.registry.get(request.model or service.settings.default_model, PromptableModel)
        packed = await service.get_packed_embedding(request.image_id, model, service.new_timings())
        return await write_in_thread(lambda: segmentation_pb2.GetEmbeddingResponse(embedding=packed))

    async def ListModels(
        self, request: segmentation_pb2.ListModelsRequest, context: Context
    ) -> segmentation_pb2.ListModelsResponse:
        bundles = await asyncio.to_thread(self._service.registry.bundles)
        models = [segmentation_pb2.Model(**describe_model(self._service, b)) for b in bundles.values()]
        return segmentation_pb2.ListModelsResponse(models=models)
