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
)
from segserve.wire.http.limits import SPOOL_BYTES

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types


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
                if spool.tell() > limit * MB:
                    raise TooLarge(
                        f"The file is over {limit} MB.", field="chunk", remedy="Send it in several parts."
                    )
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

    async def GetFile(self, request: files_pb2.GetFileRequest, context: Context) -> files_pb2.GetFileResponse:
        record = await self._service.files.get_record(current_tenant(), request.file_id)
        return files_pb2.GetFileResponse(file=file_to_message(record))

    async def DeleteFile(
        self, request: files_pb2.DeleteFileRequest, context: Context
    ) -> files_pb2.DeleteFileResponse:
        await self._service.files.delete(current_tenant(), request.file_id)
        return files_pb2.DeleteFileResponse()
