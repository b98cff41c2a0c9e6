"""The routes under /label-studio, and under /label-studio/MODEL for a project that takes another model.

Label Studio adds health, setup and the like to the URL that a user has entered, and drops its query.
"""

import asyncio
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.models.bundle import Bundle
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.json_body import read_client_json
from segserve.wire.frontends.label_studio.bodies import (
    MAX_VALUES,
    OptionsIn,
    PredictIn,
    ProjectIn,
    SetupIn,
    WebhookIn,
)
from segserve.wire.frontends.label_studio.connections import Connection, Connections, read_label_config
from segserve.wire.frontends.label_studio.label_config import LabelConfig
from segserve.wire.frontends.label_studio.precompute import Precompute
from segserve.wire.frontends.label_studio.predict import Predictor, Target, name_version
from segserve.wire.frontends.label_studio.site import Site
from segserve.wire.frontends.label_studio.task_media import TaskMedia
from segserve.wire.frontends.label_studio.video import VIDEO_EVENTS, Videos
from segserve.wire.http.client_presence import run_while_connected
from segserve.wire.http.limits import MAX_EVENT_LOOP_MASKS

PREFIX = "/label-studio"
# Shown by Label Studio as the kind of the backend.
MODEL_CLASS = "segserve"

Json = dict[str, Any]


def json_answer(content: Any, status: int = 200) -> Response:
    """Return JSON. Blocks for an answer with masks."""
    data = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(data, status, media_type="application/json")


def add_routes(api: FastAPI, parts: FrontendParts) -> None:
    service = parts.service
    site = Site(service)
    media = TaskMedia(parts, site)
    connections = Connections(service.settings)
    predictor = Predictor(parts, media)
    videos = Videos(parts, media)
    precompute = Precompute(service, site, media)

    async def get_bundle(model: str | None, options: OptionsIn) -> Bundle:
        """Return the model of the URL, else of the project's extra params, else the default one. It is not loaded."""
        return await service.registry.get_bundle(model or options.model or service.settings.default_model)

    async def show_health(model: str | None = None) -> Response:
        return json_answer({"status": "UP", "model_class": MODEL_CLASS})

    async def set_up(request: Request, model: str | None = None) -> Response:
        body = await read_client_json(request, SetupIn)
        bundle = await get_bundle(model, body.extra_params)
        connection = await connections.add(body)
        precompute.start(connection, bundle)
        return json_answer({"model_version": name_version(bundle, body.extra_params)})

    async def show_versions(model: str | None = None) -> Response:
        options = OptionsIn()
        return json_answer({"versions": [name_version(await get_bundle(model, options), options)]})

    async def predict(request: Request, model: str | None = None) -> Response:
        body = await read_client_json(request, PredictIn, MAX_VALUES)
        connection = connections.get(body.project)
        bundle = await get_bundle(model, connection.options)
        request.state.model = bundle.name
        target = Target(connection, bundle, await read_config(body, connection))
        version, context = name_version(bundle, connection.options), body.params.context
        is_video = False  # whose answer may have the masks of many frames
        if context is None:
            results = await run_while_connected(request, predictor.annotate_tasks(target, body.tasks))
        elif context.event in VIDEO_EVENTS or videos.is_video(target, context):
            is_video = True
            results = [await run_while_connected(request, videos.answer(target, body.tasks[0], context))]
        elif not context.result:
            results = [{"result": [], "score": 0.0}]
        else:
            prompts = predictor.answer_prompts(target, body.tasks[0], context.result)
            results = [await run_while_connected(request, prompts)]
        # A task without a result of its own has none at all: Label Studio leaves it out.
        answer = {"results": [{**result, "model_version": version} for result in results]}
        count = sum(len(result.get("result", ())) for result in results)
        if len(results) == 1 and count <= MAX_EVENT_LOOP_MASKS and not is_video:
            return json_answer(answer)
        return await asyncio.to_thread(json_answer, answer)

    async def take_webhook(request: Request, model: str | None = None) -> Response:
        body = await read_client_json(request, WebhookIn, MAX_VALUES)
        number = body.project.id if body.project is not None else None
        for connection in connections.find_number(number) if number is not None else []:
            if body.action == "PROJECT_DELETED":
                connections.forget(connection.project)
            elif body.action == "TASKS_CREATED":
                bundle = await get_bundle(model, connection.options)
                precompute.start(connection, bundle, has_new_tasks=True)
        return json_answer({"status": "ok"}, 201)

    async def forget(request: Request, model: str | None = None) -> Response:
        connections.forget((await read_client_json(request, ProjectIn)).project)
        return json_answer({"status": "ok"})

    for prefix in (PREFIX, f"{PREFIX}/{{model}}"):

        def add(method: str, path: str, function: Any, prefix: str = prefix) -> None:
            api.add_api_route(f"{prefix}{path}", function, methods=[method], include_in_schema=False)

        add("GET", "/health", show_health)
        add("GET", "/versions", show_versions)
        add("POST", "/setup", set_up)
        add("POST", "/predict", predict)
        add("POST", "/webhook", take_webhook)
        add("POST", "/delete", forget)
        add("GET", "/", show_health)
        add("GET", "", show_health)


async def read_config(body: PredictIn, connection: Connection) -> LabelConfig:
    """Return the label config that comes with a prediction, else the one that the project has set up."""
    if body.label_config or connection.config is None:
        return await read_label_config(body.label_config)
    return connection.config
