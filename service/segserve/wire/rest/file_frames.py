"""GET /v1/files/{file_id}/frames/{frame}: a frame or slice as a picture."""

from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.errors import BadInput
from segserve.files.file_view import FileView
from segserve.identity.identity import current_tenant
from segserve.wire.http.client_presence import run_while_connected
from segserve.wire.operations.file_frames import render_frame
from segserve.wire.rest.files import FileId
from segserve.wire.rest.pictures import (
    MAX_PICTURE_PX,
    PICTURE_CONTENT,
    choose_picture_format,
    picture_headers,
    picture_tag,
    unchanged_response,
)
from segserve.wire.rest.responses import problem_responses

Frame = Annotated[
    int, Path(ge=0, le=1 << 40, description="number of the frame or slice, from 0", examples=[5])
]
NUMBER = r"-?\d{1,12}(\.\d{1,6})?"


def parse_window(window: str | None) -> tuple[float, float] | None:
    """The window of the query. Raises BadInput."""
    if window is None:
        return None
    low, high = map(float, window.split(","))
    if not low < high:
        raise BadInput("The window is empty or reversed.", field="window", remedy="Send low,high.")
    return low, high


def add_routes(api: FastAPI, service: Service) -> None:
    @api.get(
        "/v1/files/{file_id}/frames/{frame}",
        summary="Download a frame",
        name="get_file_frame",
        response_class=Response,
        responses={200: {"content": PICTURE_CONTENT}, **problem_responses(404, 413, 422, 501, 503)},
        tags=["files"],
    )
    async def get_frame(
        file_id: FileId,
        frame: Frame,
        request: Request,
        axis: Annotated[
            int,
            Query(
                ge=0,
                le=2,
                description="of a volume, the array axis along which slices are numbered; 0: as they are stored",
            ),
        ] = 0,
        window: Annotated[
            str | None,
            Query(
                pattern=f"^{NUMBER},{NUMBER}$",
                description="of a volume, the values that become black and white, such as -160,240; chosen as for jobs"
                " if left out",
            ),
        ] = None,
        max_side_px: Annotated[
            int | None,
            Query(
                alias="max",
                ge=1,
                le=MAX_PICTURE_PX,
                description="longest side of the picture, in pixels; the frame's own if left out",
            ),
        ] = None,
    ) -> Response:
        """A frame of a video or stack, or a slice of a volume along any axis, as models see it: `axes` of the file says
        how many there are. PNG where the header Accept names image/png, otherwise JPEG. To click on it, send
        `{"file_id", "frame"}` to POST /v1/images."""
        record = await service.files.get_record(current_tenant(), file_id)
        view = FileView(file_id, axis, parse_window(window))
        picture_format = choose_picture_format(request)
        tag = picture_tag(view, frame, max_side_px, picture_format)
        if (unchanged := unchanged_response(request, tag)) is not None:
            return unchanged
        rendering = render_frame(service, record, view, frame, max_side_px, picture_format)
        content = await run_while_connected(request, rendering)
        return Response(content, media_type=f"image/{picture_format}", headers=picture_headers(tag))
