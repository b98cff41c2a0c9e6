"""Videos, stacks, volumes and archives: store, look up, delete."""

from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.types import DEFAULT_TENANT, FileRecord
from segserve.wire.http import request_body
from segserve.wire.rest.responses import json, refusals
from segserve.wire.schemas.jobs import FileOut

FileId = Annotated[str, Path(description="as POST /v1/files answered it", max_length=128)]


def file_out(record: FileRecord) -> dict[str, Any]:
    return {
        "file_id": record.file_id,
        "kind": record.kind,
        "format": record.format,
        "frames": record.count,
        "width": record.size.width,
        "height": record.size.height,
        "fps": record.fps,
        "spacing": record.spacing,
    }


def add(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/files",
        status_code=201,
        response_model=FileOut,
        openapi_extra=request_body.FILE_SCHEMA,
        responses=refusals(400, 408, 413, 415, 422, 501, 503, 507),
        tags=["files"],
    )
    async def upload(request: Request) -> Response:
        """Store a video (mp4, mov, webm, avi, gif), a stack (TIFF, zip of pictures) or a volume (NIfTI, NRRD,
        MetaImage, zip of a DICOM series). What it is is found out from its content. The same bytes have the same id."""
        async with request_body.sent(request) as file:
            record = await service.files.add(DEFAULT_TENANT, file)
        return json(file_out(record), 201)

    @api.get("/v1/files/{file_id}", response_model=FileOut, responses=refusals(404, 422, 503), tags=["files"])
    async def look(file_id: FileId) -> Response:
        """What a stored file is; HEAD asks whether there is one."""
        return json(file_out(await service.files.record(DEFAULT_TENANT, file_id)))

    @api.delete("/v1/files/{file_id}", status_code=204, responses=refusals(404, 422, 503), tags=["files"])
    async def delete(file_id: FileId) -> Response:
        """Delete a file. Pictures that a batch took out of it are images of their own and stay."""
        await service.files.delete(DEFAULT_TENANT, file_id)
        return Response(status_code=204)
