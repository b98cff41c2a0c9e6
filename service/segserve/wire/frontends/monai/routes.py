"""The routes under /monai. Their trailing slashes are part of the protocol; a client that leaves one out is answered
too."""

import asyncio
import random
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from segserve import __version__
from segserve.errors import BadInput, NotAllowed, NotFound
from segserve.identity.identity import current_identity
from segserve.wire.client_address import client_of_scope
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.json_body import parse_json
from segserve.wire.frontends.monai.batch import Batches, Images
from segserve.wire.frontends.monai.datastore import FINAL_TAG, ORIGINAL_TAG, Datastore, check_info, check_tag
from segserve.wire.frontends.monai.forms import MAX_SESSION_FILES, Form, SentFile, open_form
from segserve.wire.frontends.monai.infer import find_volume, run_task
from segserve.wire.frontends.monai.models import Task, find_task, list_all_tasks
from segserve.wire.frontends.monai.params import MAX_VALUES, InferIn, read_params
from segserve.wire.frontends.monai.results import Output, write_answer, write_file
from segserve.wire.frontends.monai.sessions import MonaiSessions
from segserve.wire.frontends.monai.volumes import Volume, Volumes
from segserve.wire.frontends.sent_images import run_if_large
from segserve.wire.http.client_presence import run_while_connected

PREFIX = "/monai"
# The version of the protocol of MONAI Label's apps.
APP_VERSION = "2.0"
STRATEGIES = {
    "first": {"description": "The first image of the datastore without a label"},
    "random": {"description": "Any image of the datastore without a label"},
}

MAX_LOGIN_FIELDS = 16

Json = dict[str, Any]
Name = Annotated[str, Query(max_length=255)]
Tag = Annotated[str, Query(max_length=64)]


def json_answer(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


async def read_info(form: Form, field: str = "params") -> Json:
    """Read a JSON object of a form. Raises TooLarge, BadInput."""
    return check_info(await asyncio.to_thread(parse_json, form.text(field, "{}").encode(), MAX_VALUES))


class MonaiRoutes:
    """`MonaiRoutes` answers the requests."""

    def __init__(self, parts: FrontendParts) -> None:
        self._service = parts.service
        self._volumes = Volumes(parts.service, parts.sent_images)
        self._sessions = MonaiSessions(parts.service, self._volumes)
        self._datastore = Datastore(parts.service)
        self._batches = Batches(parts.service, self._datastore)

    # What there is.

    async def show_info(self) -> Response:
        names = self._service.settings.monai_labels
        models = {task.name: task.describe(names) for task in await list_all_tasks(self._service)}
        # Clients let the user choose among these for clicks.
        labels = [*names, *(label for model in models.values() for label in model["labels"])]
        return json_answer(
            {
                "name": f"segserve {__version__}",
                "description": "Encode an image once, then answer every click in milliseconds",
                "version": APP_VERSION,
                "labels": list(dict.fromkeys(labels)),
                "models": models,
                "trainers": {},
                "strategies": STRATEGIES,
                "scoring": {},
                "train_stats": {},
                "datastore": await self._datastore.count(),
            }
        )

    # Segmentation.

    async def infer(
        self,
        request: Request,
        model: str,
        image: Name = "",
        session_id: Annotated[str, Query(max_length=128)] = "",
        output: Output = Output.ALL,
    ) -> Response:
        task = await find_task(self._service, model)
        request.state.model = task.bundle.name
        async with open_form(request) as form:
            params = await read_params(form.text("params", "{}"))
            if form.file("label") is not None:
                raise BadInput(
                    "Labels and scribbles are no prompts here.",
                    field="label",
                    remedy="Mark it by points or roi.",
                )
            if session_id:
                with self._sessions.sessions.use(session_id) as session:
                    volume = session.volume
                    return await run_while_connected(request, self._answer(task, volume, params, output))
            file = form.file("file")
            if file is not None:
                volume = await self._volumes.add(file.file)
            else:
                volume = await find_volume(self._volumes, self._datastore, image)
        return await run_while_connected(request, self._answer(task, volume, params, output))

    async def _answer(self, task: Task, volume: Volume, params: InferIn, output: Output) -> Response:
        async with run_task(self._service, self._volumes, task, volume, params) as labels:
            return await write_answer(self._service, volume, labels, params, output)

    async def start_batch(self, request: Request, model: str, images: Images = Images.ALL) -> Response:
        task = await find_task(self._service, model)
        if task.takes_clicks:
            raise BadInput(
                f"{task.name} needs clicks.", field="model", remedy="Name a model of the type segmentation."
            )
        body = await request.body()
        fields = await run_if_large(len(body), lambda: parse_json(body, MAX_VALUES)) if body else {}
        tag = str(fields.get("label_tag", ORIGINAL_TAG)) if isinstance(fields, dict) else ORIGINAL_TAG
        check_tag(tag)

        async def label(name: str) -> None:
            volume = await find_volume(self._volumes, self._datastore, name)
            params = InferIn()
            async with run_task(self._service, self._volumes, task, volume, params) as labels:
                data = await write_file(self._service, volume, labels, params, volume.extension)
                info = {"model": task.name, "params": {"label_names": labels.names}}
            await self._datastore.put_label(
                name, tag, SentFile(f"label{volume.extension}", BytesIO(data)), info
            )

        return json_answer(await self._batches.start(task.name, images, label))

    async def show_batch(self, check_if_running: bool = False) -> Response:
        return json_answer(self._batches.describe(only_running=check_if_running))

    async def stop_batch(self) -> Response:
        return json_answer(await self._batches.stop())

    # Sessions.

    async def open_session(self, request: Request) -> Response:
        async with open_form(request, MAX_SESSION_FILES) as form:
            files = form.files("files")
            if not files:
                raise BadInput("The form has no file.", field="files", remedy="Send it as field 'files'.")
            session_id, info = await run_while_connected(request, self._sessions.open(files))
        return json_answer({"session_id": session_id, "session_info": info})

    async def show_session(self, session_id: str, image: bool = False) -> Response:
        info = self._sessions.describe(session_id)
        if image:
            raise NotAllowed("The files of sessions are not given back.", remedy="Keep your own copy.")
        return json_answer(info)

    async def end_session(self, session_id: str) -> Response:
        return json_answer(self._sessions.end(session_id))

    # The datastore.

    async def list_datastore(self, output: str = "stats") -> Response:
        if output == "stats":
            return json_answer(await self._datastore.count())
        images = await self._datastore.describe_all()
        if output == "train":
            labeled = [name for name, entry in images.items() if FINAL_TAG in entry["labels"]]
            return json_answer([{"image": name, "label": name} for name in labeled])
        return json_answer({"name": "segserve", "description": "", "images_dir": "", "objects": images})

    async def put_image(self, request: Request, image: Name = "") -> Response:
        async with open_form(request) as form:
            file = form.need_file("file")
            name = image or file.name.removesuffix(file.extension)
            await self._datastore.put_image(name, file, await read_info(form))
        return json_answer({"image": name})

    async def put_label(self, request: Request, image: Name, tag: Tag = FINAL_TAG) -> Response:
        async with open_form(request) as form:
            info = await read_info(form)
            await self._datastore.put_label(image, tag or FINAL_TAG, form.need_file("label"), info)
        return json_answer({"image": image, "label": image})

    async def get_image(self, image: Name, check_sum: Annotated[str, Query(max_length=256)] = "") -> Response:
        record = await self._datastore.get_image(image)
        if check_sum and check_sum.rpartition(":")[2].lower() != record.digest:
            raise NotFound("The image has another checksum.", field="check_sum", remedy="Upload it again.")
        return self._stream_file(await self._datastore.stream(image), f"{record.name}{record.extension}")

    async def get_label(self, label: Name = "", image: Name = "", tag: Tag = FINAL_TAG) -> Response:
        name = label or image
        record = await self._datastore.get_label(name, tag)
        return self._stream_file(await self._datastore.stream(name, tag), f"{name}{record.extension}")

    def _stream_file(self, parts: AsyncIterator[bytes], name: str) -> Response:
        # As attachments: a browser must not take what somebody has sent for a page.
        safe = "".join(character if character.isascii() and (character.isalnum() or character in "-_.") else "_"
                       for character in name)  # fmt: skip
        headers = {"Content-Disposition": f'attachment; filename="{safe}"'}
        return StreamingResponse(parts, media_type="application/octet-stream", headers=headers)

    async def delete_image(self, id: Name) -> Response:
        await self._datastore.delete_image(id)
        return json_answer({})

    async def delete_label(self, id: Name, tag: Tag = FINAL_TAG) -> Response:
        await self._datastore.delete_label(id, tag)
        return json_answer({})

    async def show_image_info(self, image: Name) -> Response:
        return json_answer((await self._datastore.get_image(image)).describe())

    async def show_label_info(self, label: Name, tag: Tag = FINAL_TAG) -> Response:
        return json_answer((await self._datastore.get_label(label, tag)).describe())

    async def put_image_info(self, request: Request, image: Name) -> Response:
        async with open_form(request) as form:
            info = await read_info(form, "info")
        return json_answer(await self._datastore.update_info(image, None, info))

    async def put_label_info(self, request: Request, label: Name, tag: Tag = FINAL_TAG) -> Response:
        async with open_form(request) as form:
            info = await read_info(form, "info") or await read_info(form)
        return json_answer(await self._datastore.update_info(label, tag, info))

    async def next_sample(self, strategy: str) -> Response:
        if strategy not in STRATEGIES:
            raise NotFound(
                f"There is no strategy {strategy[:64]!r}.",
                field="strategy",
                remedy=f"Name one of: {', '.join(STRATEGIES)}.",
            )
        images = await self._datastore.describe_all()
        # Series of a DICOMweb server have no file here that a client could load.
        waiting = [
            name
            for name, entry in images.items()
            if FINAL_TAG not in entry["labels"] and entry["image"]["ext"]
        ]
        if not waiting:
            return json_answer({})
        name = waiting[0] if strategy == "first" else random.choice(waiting)  # noqa: S311
        record = await self._datastore.get_image(name)
        return json_answer({**record.describe(), "id": name, "checksum": f"SHA256:{record.digest}"})

    # What segserve does not do here.

    async def show_training(self, check_if_running: bool = False) -> Response:
        raise NotFound(
            "No training tasks are currently running." if check_if_running else "Nothing trains here."
        )

    async def refuse_training(self) -> Response:
        raise NotAllowed("Nothing trains here.", remedy="Train on the command line: segserve train.")

    async def stop_training(self) -> Response:
        return json_answer({})

    async def show_scoring(self) -> Response:
        raise NotFound("No scoring tasks were found.")

    async def refuse_scoring(self) -> Response:
        raise NotAllowed(
            "Nothing is scored here.", remedy="Score on the command line: segserve evaluate volumes."
        )

    async def show_logs(self) -> Response:
        return PlainTextResponse("The log of the service is where its operator started it.\n")

    async def show_auth(self) -> Response:
        is_needed = self._service.authenticators is not None
        return json_answer({"enabled": is_needed, "client_id": None, "realm": None})

    async def get_token(self, request: Request) -> Response:
        """Answer the key that a user has typed as the password: clients send it as their token from then on."""
        if self._service.authenticators is None:
            return json_answer({"access_token": None, "token_type": None})
        async with request.form(max_files=0, max_fields=MAX_LOGIN_FIELDS) as form:
            key = form.get("password") or form.get("username")
        client = client_of_scope(request.scope)
        token = key if isinstance(key, str) else None
        # The audit log says who logged in.
        current_identity.set(await self._service.authenticators.authenticate(token, client))
        return json_answer({"access_token": key, "token_type": "Bearer"})

    async def show_user(self) -> Response:
        name = current_identity.get().name
        return json_answer({"username": name, "email": None, "name": name, "roles": ["user"]})


def add_routes(api: FastAPI, parts: FrontendParts) -> None:
    routes = MonaiRoutes(parts)

    def add(method: str, path: str, function: Any) -> None:
        paths = {path, path.removesuffix("/")} - {""}
        for each in sorted(paths):
            api.add_api_route(f"{PREFIX}{each}", function, methods=[method], include_in_schema=False)

    add("GET", "/info/", routes.show_info)
    add("POST", "/infer/{model}", routes.infer)
    add("GET", "/batch/infer", routes.show_batch)
    add("POST", "/batch/infer/{model}", routes.start_batch)
    add("DELETE", "/batch/infer", routes.stop_batch)

    add("PUT", "/session/", routes.open_session)
    add("GET", "/session/{session_id}", routes.show_session)
    add("DELETE", "/session/{session_id}", routes.end_session)

    add("GET", "/datastore/", routes.list_datastore)
    add("PUT", "/datastore/", routes.put_image)
    add("DELETE", "/datastore/", routes.delete_image)
    add("PUT", "/datastore/image", routes.put_image)
    add("GET", "/datastore/image", routes.get_image)
    add("DELETE", "/datastore/image", routes.delete_image)
    add("GET", "/datastore/image/info", routes.show_image_info)
    add("PUT", "/datastore/image/info", routes.put_image_info)
    add("PUT", "/datastore/label", routes.put_label)
    add("GET", "/datastore/label", routes.get_label)
    add("DELETE", "/datastore/label", routes.delete_label)
    add("GET", "/datastore/label/info", routes.show_label_info)
    add("PUT", "/datastore/label/info", routes.put_label_info)
    add("PUT", "/datastore/updatelabelinfo", routes.put_label_info)
    add("POST", "/activelearning/{strategy}", routes.next_sample)

    add("GET", "/train/", routes.show_training)
    add("POST", "/train/", routes.refuse_training)
    add("POST", "/train/{model}", routes.refuse_training)
    add("DELETE", "/train/", routes.stop_training)
    add("GET", "/scoring/", routes.show_scoring)
    add("POST", "/scoring/", routes.refuse_scoring)
    add("POST", "/scoring/{method}", routes.refuse_scoring)
    add("GET", "/logs/", routes.show_logs)
    add("GET", "/auth/", routes.show_auth)
    add("POST", "/auth/token", routes.get_token)
    add("GET", "/auth/token/valid", routes.show_user)
