"""/v1/files: store, look up and delete videos, stacks, volumes and zips."""

from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.types import DEFAULT_TENANT, FileRecord
from segserve.wire.http import request_body
from segserve.wire.rest.responses import json_response, problem_responses
from segserve.wire.schemas.files import FileOut

FileId = Annotated[str, Path(description="as POST /v1/files answered it", max_length=128)]


def file_to_json(record: FileRecord) -> dict[str, Any]:
    """The JSON of `FileOut`."""
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


def add_routes(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/files",
        status_code=201,
        response_model=FileOut,
        openapi_extra=request_body.FILE_UPLOAD_SCHEMA,
        responses=problem_responses(400, 408, 413, 415, 422, 501, 503, 507),
        tags=["files"],
    )
    async def upload_file(request: Request) -> Response:
        """Store a video (mp4, mov, webm, avi, gif), a stack (TIFF, zip of pictures) or a volume (NIfTI, NRRD,
        MetaImage, zip of a DICOM series). Its kind is detected from its content. The same bytes have the same id."""
        async with request_body.open_upload(request) as file:
            record = await service.files.add(DEFAULT_TENANT, file)
        return json_response(file_to_json(record), 201)

    @api.get(
        "/v1/files/{file_id}",
        response_model=FileOut,
        responses=problem_responses(404, 422, 503),
        tags=["files"],
    )
    async def get_file(file_id: FileId) -> Response:
        """Kind, size and frame rate of a stored file. HEAD tells whether there is one."""
        return json_response(file_to_json(await service.files.get_record(DEFAULT_TENANT, file_id)))

    @api.delete(
        "/v1/files/{file_id}", status_code=204, responses=problem_responses(404, 422, 503), tags=["files"]
    )
    async def delete_file(file_id: FileId) -> Response:
        """Delete a file. Pictures that a batch took out of it are images of their own and stay."""
        await service.files.delete(DEFAULT_TENANT, file_id)
        return Response(status_code=204)
