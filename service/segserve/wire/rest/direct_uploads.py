"""/v1/uploads and /v1/files/{file_id}/url: files that go straight to the object store and come from it."""

from dataclasses import asdict
from typing import Annotated

from fastapi import FastAPI, Path, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.identity.identity import current_identity, current_tenant
from segserve.types import FileOptions
from segserve.wire.http.request_body import json_body_schema, read_json
from segserve.wire.rest.files import FileId, file_to_json
from segserve.wire.rest.responses import json_response, problem_responses
from segserve.wire.schemas.examples import UPLOAD_ID
from segserve.wire.schemas.files import BeginUploadIn, FileOut, SignedUrlOut, UploadOut

UploadId = Annotated[
    str, Path(description="as POST /v1/uploads answered it", max_length=128, examples=[UPLOAD_ID])
]


def add_routes(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/uploads",
        summary="Begin an upload straight to the object store",
        status_code=201,
        response_model=UploadOut,
        openapi_extra=json_body_schema(BeginUploadIn),
        responses=problem_responses(400, 403, 408, 413, 415, 422, 503, 507),
        tags=["files"],
    )
    async def begin_upload(request: Request) -> Response:
        """Answer signed URLs for the parts of a large file. PUT each part to its URL, then complete the upload. Where
        the operator allows no signed URLs it is 403: send the file to `POST /v1/files`."""
        body = await read_json(request, BeginUploadIn)
        options = FileOptions(body.series, body.time)
        begun = await service.direct_uploads.begin(current_tenant(), body.size, body.sha256, options)
        return json_response(asdict(begun), 201)

    @api.post(
        "/v1/uploads/{upload_id}/complete",
        summary="Complete an upload to the object store",
        status_code=201,
        response_model=FileOut,
        responses=problem_responses(403, 404, 413, 415, 422, 501, 503, 507),
        tags=["files"],
    )
    async def complete_upload(upload_id: UploadId) -> Response:
        """Check and store what was sent, as `POST /v1/files` does, and answer as it does. What cannot be read is
        deleted; where a part is missing, send it and call this again."""
        record = await service.direct_uploads.complete(current_tenant(), upload_id)
        return json_response(file_to_json(record), 201)

    @api.delete(
        "/v1/uploads/{upload_id}",
        summary="Give up an upload to the object store",
        status_code=204,
        responses=problem_responses(404, 422, 503),
        tags=["files"],
    )
    async def delete_upload(upload_id: UploadId) -> Response:
        """Delete the parts that were sent. An upload that nobody completes expires by itself."""
        await service.direct_uploads.give_up(current_tenant(), upload_id)
        return Response(status_code=204)

    @api.get(
        "/v1/files/{file_id}/url",
        summary="A signed URL of a file",
        response_model=SignedUrlOut,
        responses=problem_responses(403, 404, 422, 503),
        tags=["files"],
    )
    async def get_file_url(file_id: FileId) -> Response:
        """Answer a URL of the object store from which anybody who has it may fetch the file, as it was uploaded, for
        some hours, and no longer than the login, link or token that asks for it."""
        until = current_identity.get().expires
        url, expires_at = await service.direct_uploads.sign_download(current_tenant(), file_id, until)
        return json_response({"url": url, "expires_at": expires_at})
