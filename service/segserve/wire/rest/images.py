"""/v1/images: store, look up and delete images, and read their embeddings."""

from functools import partial
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.errors import BadInput
from segserve.identity.identity import current_tenant
from segserve.models.promptable_model import PromptableModel
from segserve.types import Normalise, ReadOptions, Stain
from segserve.wire.http import request_body
from segserve.wire.operations.file_frames import write_frame
from segserve.wire.operations.preview import render_preview
from segserve.wire.rest.pictures import (
    MAX_PICTURE_PX,
    PICTURE_CONTENT,
    choose_picture_format,
    picture_headers,
    picture_tag,
    unchanged_response,
)
from segserve.wire.rest.responses import BINARY, ImageId, json_response, problem_responses
from segserve.wire.results.image import stored_image_to_json
from segserve.wire.schemas.images import ImageOut


def read_options(
    page: Annotated[int, Query(ge=0, le=100_000, description="page of a multi-page file, from 0")] = 0,
    channels: Annotated[
        str | None,
        Query(
            description="channels to take, in order, such as 0 or 2,1,0; the file's own colours if left out",
            pattern=r"^\d{1,4}(,\d{1,4}){0,2}$",
        ),
    ] = None,
    normalise: Annotated[
        Normalise | None, Query(description="how values become 8-bit; auto if left out")
    ] = None,
    normalize: Annotated[Normalise | None, Query(description="another spelling of normalise")] = None,
    stain: Annotated[
        Stain | None,
        Query(description="read as grey how much of a stain there is, dark where there is much"),
    ] = None,
    invert: Annotated[bool, Query(description="make dark bright and bright dark, at last")] = False,
) -> ReadOptions:
    """The options for reading an image, from the query. Raises BadInput where the two spellings differ."""
    if normalise is not None and normalize is not None and normalise is not normalize:
        raise BadInput(
            f"normalise is {normalise!s} and normalize is {normalize!s}.",
            field="normalize",
            remedy="Send one of the two, or the same value in both.",
        )
    numbers = None if channels is None else tuple(int(c) for c in channels.split(","))
    return ReadOptions(page, numbers, normalise or normalize or Normalise.AUTO, stain, invert)


def add_routes(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/images",
        summary="Upload an image",
        status_code=201,
        response_model=ImageOut,
        openapi_extra=request_body.IMAGE_UPLOAD_SCHEMA,
        responses=problem_responses(400, 403, 404, 408, 413, 415, 422, 501, 503, 507),
        tags=["images"],
    )
    async def upload_image(
        request: Request,
        options: Annotated[ReadOptions, Depends(read_options)],
        model: Annotated[
            str | None, Query(max_length=64, description="start encoding for this model at once")
        ] = None,
    ) -> Response:
        """Store an image: a form with a field `file`, the bytes themselves (application/octet-stream or image/...), a
        URL to fetch it from, or `{"file_id", "frame"}`, a frame or slice of a stored file. The same bytes with the same
        options have the same id, however often they are sent."""
        loaded = None if model is None else await service.registry.get(model, PromptableModel)
        async with request_body.open_image_upload(
            request, service.image_fetcher, partial(write_frame, service)
        ) as file:
            record = await service.images.add(current_tenant(), file, options)
        if loaded is not None:
            service.start_encoding(record, loaded)
        return json_response(stored_image_to_json(record), 201)

    @api.get(
        "/v1/images/{image_id}",
        summary="Look up an image",
        response_model=ImageOut,
        responses=problem_responses(404, 422, 503),
        tags=["images"],
    )
    async def get_image(image_id: ImageId) -> Response:
        """The size of a stored image. HEAD tells whether there is one."""
        return json_response(
            stored_image_to_json(await service.images.get_record(current_tenant(), image_id))
        )

    @api.delete(
        "/v1/images/{image_id}",
        summary="Delete an image",
        status_code=204,
        responses=problem_responses(404, 422, 503),
        tags=["images"],
    )
    async def delete_image(image_id: ImageId) -> Response:
        """Delete an image and everything that was made from it."""
        await service.images.delete(current_tenant(), image_id)
        return Response(status_code=204)

    @api.get(
        "/v1/images/{image_id}/preview",
        summary="Download a small picture",
        response_class=Response,
        responses={200: {"content": PICTURE_CONTENT}, **problem_responses(404, 413, 422, 503)},
        tags=["images"],
    )
    async def get_preview(
        image_id: ImageId,
        request: Request,
        max_side_px: Annotated[
            int,
            Query(alias="max", ge=1, le=MAX_PICTURE_PX, description="longest side of the picture, in pixels"),
        ] = 1024,
    ) -> Response:
        """The image as models see it: the page and the channels that were taken, deep values stretched, turned upright.
        PNG where the header Accept names image/png, otherwise JPEG."""
        await service.images.get_record(current_tenant(), image_id)
        picture_format = choose_picture_format(request)
        tag = picture_tag(image_id, max_side_px, picture_format)
        if (unchanged := unchanged_response(request, tag)) is not None:
            return unchanged
        content = await render_preview(service, image_id, max_side_px, picture_format)
        return Response(content, media_type=f"image/{picture_format}", headers=picture_headers(tag))

    @api.get(
        "/v1/images/{image_id}/embedding",
        summary="Download an embedding",
        response_class=Response,
        responses={
            200: {"content": {"application/octet-stream": BINARY}},
            **problem_responses(404, 409, 422, 503),
        },
        tags=["images"],
    )
    async def get_embedding(
        image_id: ImageId,
        model: Annotated[
            str | None, Query(max_length=64, description="the service's default model if left out")
        ] = None,
    ) -> Response:
        """The embedding as safetensors (float16), to decode elsewhere with the model's decoder. Of a large image, which
        clicks see at a finer scale, it is coarse: the header Segserve-Tiled says so."""
        timings = service.new_timings()
        loaded = await service.registry.get(model or service.settings.default_model, PromptableModel)
        extent = await service.embeddings.get_extent(current_tenant(), image_id, loaded)
        packed = await service.get_packed_embedding(image_id, loaded, timings)
        headers = {"Server-Timing": timings.server_timing()}
        if extent.tiled:
            headers["Segserve-Tiled"] = "true"
        return Response(packed, media_type="application/octet-stream", headers=headers)
