"""The routes under /cvat: those of Nuclio's dashboard that CVAT calls."""

import asyncio

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.errors import BadInput
from segserve.wire.frontends.cvat.functions import Function, describe_function, find_function, list_functions
from segserve.wire.frontends.cvat.invoke import invoke
from segserve.wire.frontends.frontend import FrontendParts

PREFIX = "/cvat"
INVOKE_PATH = f"{PREFIX}/api/function_invocations"
DIRECT_PATH = f"{PREFIX}/"
FUNCTION_HEADER = "x-nuclio-function-name"


def add_routes(api: FastAPI, parts: FrontendParts) -> None:
    service = parts.service
    settings = service.settings

    # By the names of all models: to read every manifest takes longer than to decode a click.
    known: dict[tuple[str, ...], list[Function]] = {}

    async def find_functions() -> list[Function]:
        names = tuple(service.registry.names())
        if names not in known:
            bundles = await asyncio.to_thread(service.registry.bundles)
            known.clear()
            known[names] = list_functions(bundles.values(), settings.cvat_browser_model)
        return known[names]

    def describe(function: Function) -> dict[str, object]:
        return describe_function(function, settings.cvat_port or settings.port)

    async def show_functions() -> Response:
        functions = await find_functions()
        return json_answer(orjson.dumps({function.id: describe(function) for function in functions}))

    async def show_function(function_id: str) -> Response:
        return json_answer(orjson.dumps(describe(find_function(await find_functions(), function_id))))

    async def invoke_function(request: Request) -> Response:
        function_id = request.headers.get(FUNCTION_HEADER)
        if function_id is None:
            raise BadInput(
                f"The header {FUNCTION_HEADER} is missing: all functions have this one port.",
                field=FUNCTION_HEADER,
                remedy="Set CVAT_NUCLIO_INVOKE_METHOD=dashboard in CVAT.",
            )
        function = find_function(await find_functions(), function_id)
        request.state.model = function.bundle.name
        return json_answer(await invoke(parts, function, request))

    api.add_api_route(f"{PREFIX}/api/functions", show_functions, methods=["GET"], include_in_schema=False)
    api.add_api_route(
        f"{PREFIX}/api/functions/{{function_id}}", show_function, methods=["GET"], include_in_schema=False
    )
    for path in (INVOKE_PATH, DIRECT_PATH):
        api.add_api_route(path, invoke_function, methods=["POST"], include_in_schema=False)


def json_answer(content: bytes) -> Response:
    return Response(content, media_type="application/json")
