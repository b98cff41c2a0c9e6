"""FileService: videos, stacks, volumes and zips."""

from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeAlias, cast

from segserve.app import Service
from segserve.errors import BadInput, TooLarge
from segserve.identity.identity import current_tenant
from segserve.temporary_files import translate_disk_full
from segserve.types import MB, FileOptions
from segserve.v1 import files_pb2, files_pb2_grpc
from segserve.wire.grpc.convert.files import (
    dicomweb_source_from_message,
    file_options_from_message,
    file_to_message,
    labels_to_messages,
)
from segserve.wire.http.limits import SPOOL_BYTES
from segserve.wire.operations.read_labels import read_labels

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types


VOLUME_AXES = 3


def check_size(size_bytes: int, max_mb: int) -> None:
    """Raises TooLarge."""
    if size_bytes > max_mb * MB:
        raise TooLarge(f"The file is over {max_mb} MB.", field="chunk", remedy="Send it in several parts.")


class FileService(files_pb2_grpc.FileServiceServicer):
    """Every method converts the request, calls what REST calls too, and converts the answer."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def UploadFile(
        self, requests: AsyncIterator[files_pb2.UploadFileRequest], context: Context
    ) -> files_pb2.UploadFileResponse:
        limit, options, source = self._service.settings.max_file_mb, FileOptions(), None
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            async for request in requests:
                if request.HasField("options"):
                    options = file_options_from_message(request.options)
                if request.HasField("dicomweb"):
                    source = dicomweb_source_from_message(request.dicomweb)
                spool.write(request.chunk)
                check_size(spool.tell(), limit)
            request = files_pb2.UploadFileRequest()  # the last chunk may take megabytes
            if source is not None:
                if spool.tell():
                    raise BadInput(
                        "There are bytes and a series to fetch.", field="chunk", remedy="Send one of the two."
                    )
                await self._service.dicomweb_fetcher.fetch(source, cast(BinaryIO, spool))
            if not spool.tell():
                raise BadInput("There are no bytes.", field="chunk", remedy="Send the file in chunks.")
            record = await self._service.files.add(current_tenant(), cast(BinaryIO, spool), options)
        return files_pb2.UploadFileResponse(file=file_to_message(record))

    async def ReadLabels(
        self, requests: AsyncIterator[files_pb2.ReadLabelsRequest], context: Context
    ) -> AsyncIterator[bytes]:
        limit, file_id, axis = self._service.settings.max_file_mb, "", 0
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            async for request in requests:
                file_id, axis = request.file_id or file_id, request.axis or axis
                spool.write(request.chunk)
                check_size(spool.tell(), limit)
            request = files_pb2.ReadLabelsRequest()  # the last chunk may take megabytes
            if axis >= VOLUME_AXES:
                raise BadInput(f"There is no axis {axis}.", field="axis", remedy="Send 0, 1 or 2.")
            if not spool.tell():
                raise BadInput("There are no bytes.", field="chunk", remedy="Send the file in chunks.")
            slices = await read_labels(
                self._service, file_id, axis, cast(BinaryIO, spool), labels_to_messages
            )
        for message in slices:
            yield message

    async def GetFile(self, request: files_pb2.GetFileRequest, context: Context) -> files_pb2.GetFileResponse:
        record = await self._service.files.get_record(current_tenant(), request.file_id)
        return files_pb2.GetFileResponse(file=file_to_message(record))

    async def DeleteFile(
        self, request: files_pb2.DeleteFileRequest, context: Context
    ) -> files_pb2.DeleteFileResponse:
        await self._service.files.delete(current_tenant(), request.file_id)
        return files_pb2.DeleteFileResponse()
