"""/v1/files: store, look up and delete videos, stacks, volumes and zips."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.files.file_contents import MAX_NAME_CHARS
from segserve.files.file_view import list_axes, view_shape
from segserve.identity.identity import current_tenant
from segserve.types import FileContent, FileOptions, FileRecord
from segserve.wire.http import request_body
from segserve.wire.rest.responses import json_response, problem_responses
from segserve.wire.schemas.examples import FILE_ID
from segserve.wire.schemas.files import FileOut

FileId = Annotated[str, Path(description="as POST /v1/files answered it", max_length=128, examples=[FILE_ID])]


def file_options(
    series: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=MAX_NAME_CHARS,
            description="the series to take of a file that holds several: its name in `contents`, or its number from 0",
        ),
    ] = None,
    time: Annotated[
        int | None,
        Query(
            ge=0, le=1_000_000, description="the point in time to take of a series that has several, from 0"
        ),
    ] = None,
) -> FileOptions:
    """The options for reading a file, from the query."""
    return FileOptions(series, time)


def content_to_json(content: FileContent) -> dict[str, Any]:
    """The JSON of `FileContentOut`."""
    return {
        "series": content.series,
        "description": content.description,
        "times": content.times,
        "frames": content.count,
        "width": content.size.width,
        "height": content.size.height,
        "taken": content.taken_time is not None,
        "time": content.taken_time,
        "notes": content.notes,
    }


def axis_to_json(record: FileRecord, axis: int) -> dict[str, Any]:
    """The JSON of `FileAxisOut`."""
    count, size = view_shape(record, axis)
    return {"axis": axis, "frames": count, "width": size.width, "height": size.height}


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
        "axes": [axis_to_json(record, axis) for axis in list_axes(record)],
        "contents": [content_to_json(content) for content in record.contents],
        "left_out": asdict(record.left_out),
    }


def add_routes(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/files",
        summary="Upload a video, stack, volume or zip",
        status_code=201,
        response_model=FileOut,
        openapi_extra=request_body.FILE_UPLOAD_SCHEMA,
        responses=problem_responses(400, 403, 408, 413, 415, 422, 501, 503, 507),
        tags=["files"],
    )
    async def upload_file(
        request: Request, options: Annotated[FileOptions, Depends(file_options)]
    ) -> Response:
        """Store a video (mp4, webm, mkv, avi, gif, ts, mpg, wmv, flv, ogv), a stack (TIFF, CZI, LIF, ND2, a zip of
        pictures or of OME-Zarr) or a volume (NIfTI, NRRD, MetaImage, DICOM). Its kind is detected from its content. Of
        a file that holds several series or points in time one is taken, and `contents` lists them all. The same bytes
        with the same options have the same id. `{"dicomweb"}` fetches a study or series from a DICOMweb server that the
        operator allows."""
        async with request_body.open_file_upload(request, service.dicomweb_fetcher) as file:
            record = await service.files.add(current_tenant(), file, options)
        return json_response(file_to_json(record), 201)

    @api.get(
        "/v1/files/{file_id}",
        summary="Look up a file",
        response_model=FileOut,
        responses=problem_responses(404, 422, 503),
        tags=["files"],
    )
    async def get_file(file_id: FileId) -> Response:
        """Kind, size and frame rate of a stored file. HEAD tells whether there is one."""
        return json_response(file_to_json(await service.files.get_record(current_tenant(), file_id)))

    @api.delete(
        "/v1/files/{file_id}",
        summary="Delete a file",
        status_code=204,
        responses=problem_responses(404, 422, 503),
        tags=["files"],
    )
    async def delete_file(file_id: FileId) -> Response:
        """Delete a file. Pictures that a batch took out of it are images of their own and stay."""
        await service.files.delete(current_tenant(), file_id)
        return Response(status_code=204)
