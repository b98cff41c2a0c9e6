"""The routes under /isat."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from math import prod
from typing import Any, BinaryIO, cast

import numpy as np
import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.datastructures import FormData, UploadFile

from segserve.errors import BadInput, TooLarge
from segserve.identity.identity import current_tenant
from segserve.models.bundle import Bundle
from segserve.models.promptable_model import PromptableModel
from segserve.settings import MEGAPIXEL
from segserve.temporary_files import translate_disk_full
from segserve.types import ImageRecord, UInt8
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.isat.checkpoint import choose_model, name_checkpoint
from segserve.wire.frontends.isat.features import compress, write_answer
from segserve.wire.http.client_presence import run_while_connected

PREFIX = "/isat"
ENCODE_PATH = f"{PREFIX}/api/encode"

# ISAT sends RGB of 8 bits alone; its own server evaluates the name that the client sends.
DTYPE = "uint8"
CHANNELS = 3
SHAPE = re.compile(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*")
MAX_FORM_FIELDS = 8


def add_routes(api: FastAPI, parts: FrontendParts) -> None:
    service = parts.service
    settings = service.settings

    # By the names of all models: to read every manifest takes long.
    chosen: dict[tuple[str, ...], Bundle] = {}

    async def find_model() -> Bundle:
        names = tuple(service.registry.names())
        if names not in chosen:
            bundles = await asyncio.to_thread(service.registry.bundles)
            found = choose_model(bundles.values(), settings.isat_model, settings.default_model)
            chosen.clear()
            chosen[names] = found
        return chosen[names]

    async def show_info() -> Response:
        content = {
            "checkpoint": name_checkpoint(await find_model()),
            "device": settings.device,
            "dtype": "torch.float32",
        }
        return Response(orjson.dumps(content), media_type="application/json")

    async def encode(request: Request) -> Response:
        bundle = await find_model()
        request.state.model = bundle.name
        model = await service.registry.get(bundle.name, PromptableModel)
        with translate_disk_full():
            async with request.form(max_files=1, max_fields=MAX_FORM_FIELDS) as form:
                image = await store_image(form)
        timings = service.new_timings()
        embedding = await run_while_connected(
            request, service.embeddings.get_embedding(current_tenant(), image.image_id, model, timings)
        )
        pieces = write_answer(model.manifest, embedding, image.size)
        headers = {"Server-Timing": timings.server_timing(), "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            pieces = compress(pieces)
        return StreamingResponse(run_in_threads(pieces), media_type="application/json", headers=headers)

    async def store_image(form: FormData) -> ImageRecord:
        """Store the pixels of a form. Raises BadInput, TooLarge, and what `ImageLibrary.add` raises."""
        height, width = read_shape(form)
        if height * width > settings.max_tiled_megapixels * MEGAPIXEL:
            raise TooLarge(
                f"The image has {height} x {width} pixels, more than {settings.max_tiled_megapixels} megapixels.",
                field="shape",
                remedy="Send a smaller one, or ask the operator to raise SEGSERVE_MAX_TILED_MEGAPIXELS.",
            )
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise BadInput("The form has no file.", field="file", remedy="Send the pixels as field 'file'.")
        pixels = await asyncio.to_thread(read_pixels, upload.file, height, width)
        return await parts.sent_images.store_pixels(pixels)

    api.add_api_route(f"{PREFIX}/api/info", show_info, methods=["GET"], include_in_schema=False)
    api.add_api_route(ENCODE_PATH, encode, methods=["POST"], include_in_schema=False)


def read_shape(form: FormData) -> tuple[int, int]:
    """Return height and width. Raises BadInput for anything but RGB of 8 bits."""
    dtype, shape = form.get("dtype"), form.get("shape")
    if dtype != DTYPE:
        raise BadInput(
            "The pixels are of another type than uint8.", field="dtype", remedy=f"Send dtype={DTYPE}."
        )
    match = SHAPE.fullmatch(shape) if isinstance(shape, str) else None
    if match is None or int(match[3]) != CHANNELS or not prod(map(int, match.groups())):
        raise BadInput(
            "The shape is none of an RGB image.",
            field="shape",
            remedy="Send height,width,3: shape=480,640,3.",
        )
    return int(match[1]), int(match[2])


def read_pixels(file: BinaryIO, height: int, width: int) -> UInt8:
    """Return the pixels [height, width, 3] of an uploaded file. A large one stays on disk. Blocks. Raises BadInput."""
    expected_bytes = height * width * CHANNELS
    size_bytes = file.seek(0, 2)
    file.seek(0)
    if size_bytes != expected_bytes:
        raise BadInput(
            f"The file has {size_bytes} bytes, and an image of {height} x {width} has {expected_bytes}.",
            field="file",
            remedy="Send the raw bytes of the RGB pixels, row by row.",
        )
    shape = (height, width, CHANNELS)
    # A SpooledTemporaryFile that has gone to disk has a file that can be mapped.
    if getattr(file, "_rolled", False):
        mapped: UInt8 = np.memmap(cast(Any, file)._file, dtype=np.uint8, mode="r", shape=shape)
        return mapped
    return np.frombuffer(file.read(), np.uint8).reshape(shape)


async def run_in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces, each made in a thread when the one before was sent: a slow client takes no memory."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
