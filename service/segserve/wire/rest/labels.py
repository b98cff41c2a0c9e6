"""POST /v1/files/{file_id}/labels: read a label volume on the grid of a stored volume."""

from typing import Annotated

import orjson
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.wire.http import request_body
from segserve.wire.http.client_presence import run_while_connected
from segserve.wire.operations.read_labels import read_labels
from segserve.wire.rest.files import FileId
from segserve.wire.rest.responses import problem_responses
from segserve.wire.schemas.labels import LabelsOut


def add_routes(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/files/{file_id}/labels",
        summary="Read a label volume",
        response_model=LabelsOut,
        openapi_extra=request_body.LABELS_UPLOAD_SCHEMA,
        responses=problem_responses(400, 404, 408, 413, 415, 422, 501, 503, 507),
        tags=["files"],
    )
    async def read_label_volume(
        file_id: FileId,
        request: Request,
        axis: Annotated[
            int, Query(ge=0, le=2, description="the array axis along which slices are numbered")
        ] = 0,
    ) -> Response:
        """Read labels of other programs (NIfTI, NRRD, MetaImage, MGH, DICOM SEG) on the voxels of a stored volume: the
        mask of each object on each slice. Axes that are turned or reversed are turned back. Labels on another grid are
        refused. The label volume is not stored."""
        async with request_body.open_upload(request) as file:
            content = await run_while_connected(
                request, read_labels(service, file_id, axis, file, orjson.dumps)
            )
        return Response(content, media_type="application/json")
