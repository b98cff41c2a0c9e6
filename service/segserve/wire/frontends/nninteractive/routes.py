"""The routes under /nninteractive."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.errors import BadInput, TooLarge
from segserve.types import MB, FrontendName
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.json_body import ClientBody
from segserve.wire.frontends.nninteractive import array_file
from segserve.wire.frontends.nninteractive.bodies import (
    META_HEADER,
    BoxIn,
    DrawingIn,
    InitialSegIn,
    PointIn,
    SetImageIn,
    TargetBufferIn,
    find_plane,
    read_json_body,
    read_meta,
    spread_voxels,
    to_array_box,
    to_voxel,
)
from segserve.wire.frontends.nninteractive.capabilities import describe_capabilities
from segserve.wire.frontends.nninteractive.interactions import Interactions, seed_interactions
from segserve.wire.frontends.nninteractive.lease import Lease, ObjectState, Volume, delete_volume, give_back
from segserve.wire.frontends.nninteractive.packed_array import pack_mask
from segserve.wire.frontends.nninteractive.predict import predict
from segserve.wire.frontends.nninteractive.volume_mask import (
    ArrayBox,
    VolumeMask,
    cut_box,
    encode_slices,
    find_change,
)
from segserve.wire.frontends.sessions import SessionNotFound, Sessions
from segserve.wire.http.client_presence import run_while_connected
from segserve.wire.operations.models import find_promptable

PREFIX = "/nninteractive"
LEASE_HEADER = "X-Lease-Token"
BINARY = "application/octet-stream"
# A client that gives no sign for so long is gone. It sends one every half of that.
SILENCE_S = 60.0
# Run lengths of one mask, which a client sends.
MAX_MASK_BYTES = 32 * MB
# Types of a client's own mask. What is answered is uint8, and converted there.
BUFFER_DTYPES = {"bool"} | {f"{sign}int{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)}
# Routes whose body is a packed array.
DRAWING_ROUTES = ("add_scribble_interaction", "add_lasso_interaction", "add_initial_seg_interaction")
FILE_ROUTES = ("set_image", *DRAWING_ROUTES)
PREDICTING_ROUTES = ("predict", "add_point_interaction", "add_bbox_interaction", *DRAWING_ROUTES)


def json_answer(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def change_answer(has_run: bool, box: ArrayBox | None = None, content: bytes = b"") -> Response:
    """Return the answer to an interaction. content: the packed mask in the box."""
    meta = {"ran_prediction": has_run, "bbox": box}
    return Response(content, media_type=BINARY, headers={META_HEADER: orjson.dumps(meta).decode()})


def add_routes(api: FastAPI, parts: FrontendParts) -> None:
    service = parts.service
    leases = Sessions[Lease](
        service, FrontendName.NNINTERACTIVE, partial(give_back, service), silence_s=SILENCE_S
    )

    @asynccontextmanager
    async def use_lease(request: Request) -> AsyncIterator[Lease]:
        """Yield the lease of a request, when it is its turn. Raises SessionNotFound."""
        with leases.use(read_token(request)) as lease:
            async with lease.lock:
                yield lease

    async def write_change(before: VolumeMask, after: VolumeMask) -> Response:
        """Return the answer that has what is different. Raises TooLarge, Busy."""
        box = await asyncio.to_thread(find_change, before, after)
        if box is None:
            return change_answer(has_run=True)
        voxels = int(np.prod([end - begin for begin, end in box]))
        async with service.image_memory.hold(2 * voxels, "image"):
            content = await asyncio.to_thread(lambda: pack_mask(cut_box(after, box)))
        return change_answer(has_run=True, box=box, content=content)

    async def interact(
        request: Request, lease: Lease, has_run: bool, change: Callable[[ObjectState], Interactions]
    ) -> Response:
        """Add an interaction, and answer the changed part of the mask.

        change: returns the interactions with the new one. Blocks.
        """
        request.state.model = lease.model
        state = lease.get_state()
        drawn = replace(state, interactions=await asyncio.to_thread(change, state), is_pending=True)
        if not has_run:
            lease.advance(drawn)
            return change_answer(has_run=False)
        after, response = await run_while_connected(request, run_prediction(lease, drawn))
        lease.advance(after)
        return response

    async def run_prediction(lease: Lease, drawn: ObjectState) -> tuple[ObjectState, Response]:
        """Return the state with its mask computed, and the answer."""
        mask = drawn.mask
        if not drawn.interactions.is_empty:  # otherwise nothing says where the object is
            mask = await predict(service, lease, drawn.interactions)
        return replace(drawn, mask=mask, is_pending=False), await write_change(drawn.mask, mask)

    async def check_health() -> Response:
        return json_answer({"ok": True})

    async def show_capabilities(request: Request, model: str | None = None) -> Response:
        bundle = await asyncio.to_thread(find_promptable, service, model)
        return json_answer(describe_capabilities(bundle))

    async def claim(model: str | None = None) -> Response:
        _ = service.jobs  # raises where there are none, before anything is stored
        bundle = await asyncio.to_thread(find_promptable, service, model)
        token = leases.open(Lease(bundle.name))
        settings = service.settings
        return json_answer(
            {
                "lease_token": token,
                "idle_timeout_seconds": settings.session_idle_s,
                "liveness_timeout_seconds": SILENCE_S,
                "max_sessions": settings.max_sessions,
            }
        )

    async def release(request: Request) -> Response:
        with suppress(SessionNotFound):  # it has ended already
            leases.end(read_token(request))
        return json_answer({"released": True})

    async def beat(request: Request) -> Response:
        token = read_token(request)
        leases.touch(token)
        return json_answer({"remaining_seconds": leases.idle_left_s(token)})

    async def show_lease(request: Request) -> Response:
        left_s = leases.idle_left_s(read_token(request))
        idle_s = service.settings.session_idle_s
        return json_answer({"remaining_seconds": left_s, "idle_timeout_seconds": idle_s})

    async def set_image(request: Request) -> Response:
        async with use_lease(request) as lease:
            body = read_meta(request, SetImageIn)
            async with array_file.receive_file(request) as path:
                record = await array_file.store_volume(service, path)
            former, volume = lease.volume, Volume(record, body.image_properties.spacing)
            try:
                leases.touch(read_token(request))
            except SessionNotFound:  # it ended meanwhile, and deletes nothing any more
                await delete_volume(service, volume)
                raise
            lease.set_volume(volume)
            if former is not None:
                await delete_volume(service, former)
            return json_answer({"original_image_shape": [1, *lease.get_volume().shape]})

    async def set_target_buffer(request: Request) -> Response:
        async with use_lease(request) as lease:
            body = await read_json_body(request, TargetBufferIn)
            shape = lease.get_volume().shape
            if tuple(body.shape) != shape or body.dtype not in BUFFER_DTYPES:
                raise BadInput(
                    f"The buffer is {body.dtype} {body.shape}.",
                    field="shape",
                    remedy=f"Take one of whole numbers or bool, {list(shape)} as the image.",
                )
            state = lease.get_state()  # what was drawn stays; the new buffer is empty
            lease.state = replace(state, mask=VolumeMask(shape, state.mask.axis))
            return json_answer({})

    async def set_do_autozoom(request: Request) -> Response:
        async with use_lease(request):  # objects are followed as far as they go anyhow
            return json_answer({})

    async def reset_interactions(request: Request) -> Response:
        async with use_lease(request) as lease:
            lease.reset()
            return json_answer({})

    async def undo(request: Request) -> Response:
        async with use_lease(request) as lease:
            before = lease.get_state().mask
            if not lease.past:
                return change_answer(has_run=False)
            response = await write_change(before, lease.past[-1].mask)
            lease.go_back()
            return response

    async def predict_pending(request: Request) -> Response:
        await read_json_body(request, ClientBody)
        async with use_lease(request) as lease:
            state = lease.get_state()
            if not state.is_pending:
                return change_answer(has_run=False)
            # No step of its own to undo: it belongs to the latest interaction.
            lease.state, response = await run_while_connected(request, run_prediction(lease, state))
            return response

    async def add_point(request: Request) -> Response:
        body = await read_json_body(request, PointIn)
        async with use_lease(request) as lease:
            voxel = np.array([to_voxel(body.coordinates, lease.get_volume().shape)])

            def change(state: ObjectState) -> Interactions:
                return state.interactions.add_voxels(voxel, state.mask, include=body.include_interaction)

            return await interact(request, lease, body.run_prediction, change)

    async def add_box(request: Request) -> Response:
        body = await read_json_body(request, BoxIn)
        async with use_lease(request) as lease:
            shape = lease.get_volume().shape
            box = to_array_box(body.bbox_coords, shape)
            axis = find_plane(box, lease.get_state().interactions.axis)

            def change(state: ObjectState) -> Interactions:
                if body.include_interaction:
                    return state.interactions.add_box(box, axis, shape)
                return state.interactions.add_voxels(spread_voxels(box), state.mask, include=False)

            return await interact(request, lease, body.run_prediction, change)

    async def add_drawing(request: Request, is_lasso: bool) -> Response:
        async with use_lease(request) as lease:
            body, shape = read_meta(request, DrawingIn), lease.get_volume().shape
            box: ArrayBox = ((0, shape[0]), (0, shape[1]), (0, shape[2]))
            if body.interaction_bbox is not None:
                box = to_array_box(body.interaction_bbox, shape)
            sides = (box[0][1] - box[0][0], box[1][1] - box[1][0], box[2][1] - box[2][0])
            async with array_file.receive_file(request) as path:
                voxels = await array_file.read_array(service, path, sides, array_file.find_voxels)
            voxels += np.array(box)[:, 0]

            def change(state: ObjectState) -> Interactions:
                if not (is_lasso and body.include_interaction):
                    return state.interactions.add_voxels(voxels, state.mask, include=body.include_interaction)
                extent = np.stack([voxels.min(axis=0), voxels.max(axis=0) + 1], axis=1).tolist()
                axis = find_plane(extent, state.interactions.axis)
                return state.interactions.add_outline(voxels, axis, shape)

            return await interact(request, lease, body.run_prediction, change)

    async def add_scribble(request: Request) -> Response:
        return await add_drawing(request, is_lasso=False)

    async def add_lasso(request: Request) -> Response:
        return await add_drawing(request, is_lasso=True)

    async def add_initial_seg(request: Request) -> Response:
        async with use_lease(request) as lease:
            body, volume = read_meta(request, InitialSegIn), lease.get_volume()
            axis = volume.begin().interactions.axis
            async with array_file.receive_file(request) as path:
                mask = await array_file.read_array(
                    service, path, volume.shape, lambda values: encode_slices(values, axis)
                )
            if mask.text_bytes > MAX_MASK_BYTES:
                raise TooLarge(
                    "The segmentation has too many edges.",
                    field="body",
                    remedy="Send one object, without noise.",
                )
            # The client has written it into its own mask already, whatever comes of the prediction.
            lease.advance(ObjectState(seed_interactions(mask), mask, is_pending=bool(mask.counts)))
            if not (body.run_prediction and mask.counts):
                return change_answer(has_run=False)
            lease.state, response = await run_while_connected(
                request, run_prediction(lease, lease.get_state())
            )
            return response

    def add(method: str, path: str, function: Any) -> None:
        # With a model's name in the address of the server: http://host:8000/nninteractive/models/NAME
        for prefix in (PREFIX, f"{PREFIX}/models/{{model}}"):
            api.add_api_route(f"{prefix}/{path}", function, methods=[method], include_in_schema=False)

    add("GET", "healthz", check_health)
    add("GET", "capabilities", show_capabilities)
    add("POST", "claim", claim)
    add("POST", "release", release)
    add("POST", "heartbeat", beat)
    add("GET", "lease_status", show_lease)
    add("POST", "set_image", set_image)
    add("POST", "set_target_buffer", set_target_buffer)
    add("POST", "set_do_autozoom", set_do_autozoom)
    add("POST", "reset_interactions", reset_interactions)
    add("POST", "undo", undo)
    add("POST", "predict", predict_pending)
    add("POST", "add_point_interaction", add_point)
    add("POST", "add_bbox_interaction", add_box)
    add("POST", "add_scribble_interaction", add_scribble)
    add("POST", "add_lasso_interaction", add_lasso)
    add("POST", "add_initial_seg_interaction", add_initial_seg)


def read_token(request: Request) -> str:
    return request.headers.get(LEASE_HEADER, "")
