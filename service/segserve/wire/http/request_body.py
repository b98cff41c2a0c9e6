"""Request bodies: JSON into a checked model, an uploaded file as an open file."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeVar, cast

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.datastructures import UploadFile
from starlette.requests import Request

from segserve.errors import BadInput, TooLarge, UnsupportedFormat
from segserve.images.fetch_url import ImageFetcher
from segserve.temporary_files import translate_disk_full
from segserve.wire.schemas.common import FetchImageIn

SPOOL_BYTES = 8 << 20  # larger uploads go to a temporary file
COMPONENTS = "#/components/schemas/{model}"
LARGE_JSON = 64 << 10  # bytes; what is larger is parsed beside the event loop
MOST_VALUES = 1 << 20  # of a JSON body; each takes some hundred bytes while it is looked at

Body = TypeVar("Body", bound=BaseModel)

FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary"}},
        "additionalProperties": False,
    }
}
BYTES = {"schema": {"type": "string", "format": "binary"}}
FILE_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": FORM, "application/octet-stream": BYTES},
    }
}
UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": FORM,
            "application/octet-stream": BYTES,
            "image/*": BYTES,
            "application/json": {"schema": {"$ref": COMPONENTS.format(model=FetchImageIn.__name__)}},
        },
    }
}


def json_schema(body: type[BaseModel]) -> dict[str, Any]:
    """What a route that calls `read_json` says of its body in the OpenAPI document; `json_components` of
    the same bodies must be among the document's components."""
    schema = {"$ref": COMPONENTS.format(model=body.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def json_components(bodies: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """The schemas of these bodies and of all they refer to, by name."""
    _, schemas = models_json_schema([(body, "validation") for body in bodies], ref_template=COMPONENTS)
    found: dict[str, Any] = schemas["$defs"]
    return found


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, kind: type[Body]) -> Body:
    """The body as `kind`. Raises UnsupportedFormat, TooLarge, RequestValidationError.

    Read here and not by FastAPI, which parses in the event loop, twice over (json, then pydantic), and
    answers whatever goes wrong while reading with a bare 400.
    """
    if (sent := content_type(request)) != "application/json":
        raise UnsupportedFormat(
            f"The body cannot be read as {sent or 'nothing in particular'}.",
            field="content-type",
            remedy="Send JSON with Content-Type: application/json.",
        )
    data = await request.body()
    if data.count(b",") > MOST_VALUES:
        raise TooLarge(
            "The body holds more values than any request needs.",
            field="body",
            remedy=f"Send at most {MOST_VALUES} values; masks as RLE or PNG.",
        )
    try:
        if len(data) <= LARGE_JSON:
            return kind.model_validate_json(data)
        return await asyncio.to_thread(kind.model_validate_json, data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in found]) from None


@asynccontextmanager
async def uploaded(request: Request, fetcher: ImageFetcher) -> AsyncIterator[BinaryIO]:
    """The bytes of the request's image, whichever way they were sent, or fetched from where it says."""
    kind = content_type(request)
    if kind == "application/json":
        asked = await read_json(request, FetchImageIn)
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            await fetcher.fetch(asked.url, cast(BinaryIO, spool))
            yield cast(BinaryIO, spool)
        return
    if kind and not kind.startswith(("image/", "multipart/")) and kind != "application/octet-stream":
        raise UnsupportedFormat(
            f"An image cannot be sent as {kind}.",
            field="content-type",
            remedy="Send multipart/form-data with a field 'file', or the bytes as application/octet-stream.",
        )
    async with sent(request) as file:
        yield file


@asynccontextmanager
async def sent(request: Request) -> AsyncIterator[BinaryIO]:
    """The bytes of a file: field 'file' of a form, or the body itself."""
    if content_type(request) == "multipart/form-data":
        with translate_disk_full():
            async with request.form(max_files=1, max_fields=8) as form:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise BadInput(
                        "The form has no file.",
                        field="file",
                        remedy="Send it as field 'file': curl -F file=@image.png.",
                    )
                yield file.file
        return
    with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
        async for chunk in request.stream():
            spool.write(chunk)
        yield cast(BinaryIO, spool)
