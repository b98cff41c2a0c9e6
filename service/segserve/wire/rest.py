"""The REST API: convert, call, convert back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path as FilePath
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, Response

from segserve.app import MB, Service
from segserve.errors import BadInput, NotFound
from segserve.timing import Timings
from segserve.types import DEFAULT_TENANT, ImageRecord, Normalise, ReadOptions, Select
from segserve.wire import ask, body, headers, problems, render
from segserve.wire.middleware import HeadAsGet, InFlight, LimitBody, Observe, Pace
from segserve.wire.schemas import (
    FetchIn,
    ImageOut,
    ModelOut,
    ModelsOut,
    ProblemOut,
    ReadyOut,
    SegmentIn,
    SegmentOut,
)

PAGE = FilePath(__file__).parent / "page.html"
MULTIPART_SLACK = 1 << 20  # boundaries and headers around the file
STANDARD_METRICS = "text/plain; version=0.0.4; charset=utf-8"

ImageId = Annotated[str, Path(description="as POST /v1/images answered it", max_length=128)]
ModelName = Annotated[str, Path(max_length=64)]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content: dict[str, Any] = {problems.MEDIA_TYPE: {"schema": ProblemOut.model_json_schema()}}
    return {status: {"description": "A problem document", "content": content} for status in statuses}


def json(content: Any, status: int = 200, timings: Timings | None = None) -> Response:
    extra = {} if timings is None else {"Server-Timing": timings.header()}
    return Response(orjson.dumps(content), status, extra, media_type="application/json")


def read_options(
    page: Annotated[int, Query(ge=0, le=100_000, description="of a multi-page file, from 0")] = 0,
    channels: Annotated[
        str | None,
        Query(description="which to take, such as 0 or 2,1,0", pattern=r"^\d{1,4}(,\d{1,4}){0,2}$"),
    ] = None,
    normalise: Annotated[Normalise, Query(description="how values become 8-bit")] = Normalise.NONE,
) -> ReadOptions:
    chosen = None if channels is None else tuple(int(c) for c in channels.split(","))
    return ReadOptions(page, chosen, normalise)


def image_out(record: ImageRecord) -> dict[str, Any]:
    return {"image_id": record.image_id, "width": record.size.width, "height": record.size.height}


def add_image_routes(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/images",
        status_code=201,
        response_model=ImageOut,
        openapi_extra=body.UPLOAD_SCHEMA,
        responses=refusals(400, 403, 404, 408, 413, 415, 422, 503),
        tags=["images"],
    )
    async def upload(
        request: Request,
        options: Annotated[ReadOptions, Depends(read_options)],
        model: Annotated[
            str | None, Query(max_length=64, description="start encoding for this model at once")
        ] = None,
    ) -> Response:
        """Store an image. The same bytes with the same options have the same id, however often they are sent."""
        loaded = None if model is None else await service.segmenter.model(model)
        async with body.uploaded(request, service.fetcher) as file:
            record = await service.library.add(DEFAULT_TENANT, file, options)
        if loaded is not None:
            service.encode_ahead(record.image_id, loaded)
        return json(image_out(record), 201)

    @api.get(
        "/v1/images/{image_id}", response_model=ImageOut, responses=refusals(404, 422, 503), tags=["images"]
    )
    async def image(image_id: ImageId) -> Response:
        """The size of a stored image; HEAD asks whether there is one."""
        return json(image_out(await service.library.record(DEFAULT_TENANT, image_id)))

    @api.delete("/v1/images/{image_id}", status_code=204, responses=refusals(404, 422, 503), tags=["images"])
    async def delete(image_id: ImageId) -> Response:
        """Delete an image and all that was made from it."""
        await service.library.delete(DEFAULT_TENANT, image_id)
        return Response(status_code=204)

    @api.get(
        "/v1/images/{image_id}/embedding",
        responses={200: {"content": {"application/octet-stream": {}}}, **refusals(404, 409, 422, 503)},
        tags=["images"],
    )
    async def embedding(
        image_id: ImageId, model: Annotated[str | None, Query(max_length=64)] = None
    ) -> Response:
        """The embedding as safetensors (fp16), to decode elsewhere with the model's decoder.onnx."""
        timings = service.timings()
        loaded = await service.segmenter.model(model or service.settings.default_model)
        packed = await service.packed_embedding(image_id, loaded, timings)
        return Response(
            packed, media_type="application/octet-stream", headers={"Server-Timing": timings.header()}
        )


def add_segment_route(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/segment",
        response_model=SegmentOut,
        openapi_extra=body.json_schema(SegmentIn),
        responses={
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            **refusals(400, 404, 408, 409, 413, 415, 422, 503),
        },
        tags=["segment"],
    )
    async def segment(request: Request) -> Response:
        """Masks for prompts on an image. `Accept: image/png` answers a single mask as the picture itself."""
        timings = service.timings()
        asked = await body.read_json(request, SegmentIn)
        if "image/png" in request.headers.get("accept", ""):
            if len(asked.prompts) > 1 or asked.select is Select.ALL:
                raise BadInput(
                    "image/png holds one mask, and more were asked for.",
                    field="prompts",
                    remedy="Send one prompt with select 'best' or 'first', or accept application/json.",
                )
            shown = await ask.segment(service, asked, render.picture, timings)
            request.state.model = shown.model
            [[found]] = shown.results
            return Response(
                found.rendered, media_type="image/png", headers={"Server-Timing": timings.header()}
            )
        answer = await ask.segment(service, asked, render.formatter(asked.format), timings)
        request.state.model = answer.model
        return json(render.segmentation(answer), timings=timings)


def add_model_routes(api: FastAPI, service: Service) -> None:
    @api.get("/v1/models", response_model=ModelsOut, tags=["models"])
    async def models() -> Response:
        bundles = await asyncio.to_thread(service.registry.bundles)
        return json({"models": [ask.describe(service, b) for b in bundles.values()]})

    @api.get(
        "/v1/models/{model}", response_model=ModelOut, responses=refusals(404, 409, 422), tags=["models"]
    )
    async def one_model(model: ModelName) -> Response:
        return json(ask.describe(service, service.registry.bundle(model)))

    @api.get(
        "/v1/models/{model}/decoder.onnx",
        responses={200: {"content": {"application/octet-stream": {}}}, **refusals(404, 409, 422)},
        tags=["models"],
    )
    async def decoder(model: ModelName) -> Response:
        """The decoder with the stock interface of segment-anything's ONNX export."""
        bundle = service.registry.bundle(model)
        if not bundle.has("decoder.onnx"):
            raise NotFound(f"Model {model!r} has no decoder to hand out.", field="model")
        return FileResponse(bundle.path("decoder.onnx"), media_type="application/octet-stream")


def add_operation_routes(api: FastAPI, service: Service) -> None:
    @api.get("/livez", tags=["operation"])
    async def livez() -> Response:
        """The process answers."""
        return json({"status": "alive"})

    @api.get("/readyz", response_model=ReadyOut, responses={503: {"model": ReadyOut}}, tags=["operation"])
    async def readyz() -> Response:
        """Would a click work? Degraded: on images that this process holds."""
        status, checks = await service.readiness()
        return json({"status": status, "checks": checks}, 503 if status == "unavailable" else 200)

    @api.get("/metrics", tags=["operation"], responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        return Response(service.metrics.expose(), media_type=STANDARD_METRICS)


def add_pages(api: FastAPI) -> None:
    """The two pages; read and made once, since their policies hold the hashes of what is in them."""
    page = PAGE.read_text("utf-8")
    docs = bytes(get_swagger_ui_html(openapi_url="/openapi.json", title="segserve").body).decode()
    page_policy, docs_policy = headers.page_policy(page), headers.docs_policy(docs)

    @api.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": page_policy})

    @api.get("/docs", include_in_schema=False)
    async def show_docs() -> Response:
        return HTMLResponse(docs, headers={"Content-Security-Policy": docs_policy})


class Api(FastAPI):
    """Its OpenAPI document holds the bodies that are read by `read_json` too."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["components"]["schemas"].update(body.json_components([SegmentIn, FetchIn]))
        return document


def living(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The service starts and stops with the application."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    return lifespan


def create_operations(service: Service) -> FastAPI:
    """What a worker answers over HTTP."""
    api = FastAPI(title="segserve", version=version("segserve"), lifespan=living(service))
    problems.install(api)
    add_operation_routes(api, service)
    return api


def create_api(service: Service) -> FastAPI:
    """The ASGI application of the service."""
    api = Api(
        title="segserve",
        version=version("segserve"),
        lifespan=living(service),
        docs_url=None,
        redoc_url=None,
        summary="Encode an image once, then answer every prompt on it in milliseconds.",
    )
    problems.install(api)
    for add in (add_image_routes, add_segment_route, add_model_routes, add_operation_routes):
        add(api, service)
    add_pages(api)
    settings = service.settings
    image_limit = settings.max_image_mb * MB + MULTIPART_SLACK
    # The last one added is the first to see a request.
    api.add_middleware(LimitBody, limits={"/v1/images": image_limit}, default=settings.max_request_mb * MB)
    api.add_middleware(Pace, timeout_s=settings.body_timeout_s)
    api.add_middleware(
        InFlight,
        metrics=service.metrics,
        most=settings.max_in_flight,
        crowded={"/v1/segment": service.places.refusal},
    )
    api.add_middleware(Observe, metrics=service.metrics)
    api.add_middleware(HeadAsGet)
    if settings.cors_origins:
        api.add_middleware(CORSMiddleware, **headers.cors(settings.cors_origins))
    api.add_middleware(headers.SecureHeaders, shared=bool(settings.cors_origins))
    return api
