"""FileService: convert, call, convert back."""

from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeAlias, cast

from segserve.app import MB, Service
from segserve.errors import BadInput, TooLarge
from segserve.temporary_files import translate_disk_full
from segserve.types import DEFAULT_TENANT, FileRecord
from segserve.v1 import files_pb2, files_pb2_grpc
from segserve.wire.http.request_body import SPOOL_BYTES

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types


def file_out(record: FileRecord) -> files_pb2.File:
    message = files_pb2.File(
        file_id=record.file_id,
        kind=f"FILE_KIND_{record.kind.name}",
        format=record.format,
        frames=record.count,
        width=record.size.width,
        height=record.size.height,
        fps=record.fps,
    )
    if record.spacing is not None:
        z, y, x = record.spacing
        message.spacing.MergeFrom(files_pb2.Spacing(slice=z, row=y, column=x))
    return message


class Files(files_pb2_grpc.FileServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    async def UploadFile(
        self, requests: AsyncIterator[files_pb2.UploadFileRequest], context: Context
    ) -> files_pb2.UploadFileResponse:
        limit = self._service.settings.max_file_mb
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            async for request in requests:
                spool.write(request.chunk)
                if spool.tell() > limit * MB:
                    raise TooLarge(
                        f"The file is over {limit} MB.", field="chunk", remedy="Send it in several parts."
                    )
            if not spool.tell():
                raise BadInput("There are no bytes.", field="chunk", remedy="Send the file in chunks.")
            record = await self._service.files.add(DEFAULT_TENANT, cast(BinaryIO, spool))
        return files_pb2.UploadFileResponse(file=file_out(record))

    async def GetFile(self, request: files_pb2.GetFileRequest, context: Context) -> files_pb2.GetFileResponse:
        record = await self._service.files.record(DEFAULT_TENANT, request.file_id)
        return files_pb2.GetFileResponse(file=file_out(record))

    async def DeleteFile(
        self, request: files_pb2.DeleteFileRequest, context: Context
    ) -> files_pb2.DeleteFileResponse:
        await self._service.files.delete(DEFAULT_TENANT, request.file_id)
        return files_pb2.DeleteFileResponse()
