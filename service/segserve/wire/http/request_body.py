"""Request bodies: JSON as a checked model, an uploaded or fetched file as an open file; and their OpenAPI schemas."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeAlias, TypeVar, cast

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from segserve.errors import BadInput, UnsupportedFormat, quote
from segserve.files.fetch_dicomweb import DicomwebFetcher, DicomwebSource
from segserve.files.file_view import FileView
from segserve.images.fetch_url import ImageFetcher
from segserve.large_requests import LargeRequests
from segserve.temporary_files import translate_disk_full
from segserve.wire.http.json_pieces import freed_slowly, validate_text
from segserve.wire.http.json_structure import check_json_structure
from segserve.wire.http.limits import MAX_EVENT_LOOP_JSON_BYTES, SPOOL_BYTES
from segserve.wire.http.media_type import JSON, read_media_type
from segserve.wire.http.problems import list_faults
from segserve.wire.schemas.common import StrictBody
from segserve.wire.schemas.discriminated_body import DiscriminatedBody
from segserve.wire.schemas.files import FetchFileIn
from segserve.wire.schemas.images import FetchImageIn

COMPONENTS = "#/components/schemas/{model}"

Body = TypeVar("Body", bound=StrictBody | DiscriminatedBody[Any])

# Writes a frame of a stored file as a picture.
WriteFrame: TypeAlias = Callable[[FileView, int, BinaryIO], Awaitable[None]]

FORM_CONTENT = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary", "description": "the file's bytes"}},
        "additionalProperties": False,
    }
}
BYTES_CONTENT = {"schema": {"type": "string", "format": "binary"}}
# Bytes too, but without a type: openapi-typescript calls binary strings `string`, which no Blob and no FormData is.
ANY_BYTES_CONTENT = {"schema": {"description": "the file's bytes"}}
# The OpenAPI request bodies of POST /v1/files and POST /v1/images.
FILE_UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": FORM_CONTENT,
            "application/octet-stream": BYTES_CONTENT,
            "application/json": {"schema": {"$ref": COMPONENTS.format(model=FetchFileIn.__name__)}},
            "video/*": ANY_BYTES_CONTENT,
        },
    }
}
IMAGE_UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": FORM_CONTENT,
            "application/octet-stream": BYTES_CONTENT,
            "application/json": {"schema": {"$ref": COMPONENTS.format(model=FetchImageIn.__name__)}},
            "image/*": ANY_BYTES_CONTENT,
        },
    }
}

# The OpenAPI request body of POST /v1/files/{file_id}/labels.
LABELS_UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": FORM_CONTENT, "application/octet-stream": BYTES_CONTENT},
    }
}


def json_body_schema(schema: type[BaseModel], *, has_id_in_path: bool = False) -> dict[str, Any]:
    """The OpenAPI request body of a route that calls `read_json`. `wire.rest.openapi` must list the same schemas as
    BODIES. has_id_in_path: the route's path has the image_id, and its body need not."""
    name = name_without_image_id(schema.__name__) if has_id_in_path else schema.__name__
    reference = {"$ref": COMPONENTS.format(model=name)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


def name_without_image_id(name: str) -> str:
    """The name of the OpenAPI component that is this body without its image_id."""
    return f"{name.removesuffix('In')}ByPathIn"


async def read_json(request: Request, schema: type[Body]) -> Body:
    """Read and check a JSON body, with the image_id of the path if that has one.

    Raises UnsupportedFormat, TooLarge, BadInput, RequestValidationError.

    FastAPI is not used for this: it would parse in the event loop, parse twice (json, then pydantic), and answer all
    errors of reading with a bare 400.
    """
    return await check_json(await read_json_bytes(request), schema, request.path_params.get("image_id"))


def put_image_id(data: bytes, image_id: str, max_values: int) -> bytes:
    """Return a JSON object with the field image_id at its end, where it shifts no position that an error names.

    What is no object is returned as it is: its schema refuses it. max_values: of the body.

    Raises TooLarge, and BadInput where another image_id is in it.
    """
    head = data.rstrip()
    if not head.endswith(b"}"):
        return data
    if b'"image_id"' in data:
        check_same_image(data, image_id, max_values)
    before = head[:-1].rstrip()
    comma = b"" if before.endswith(b"{") else b","
    return before + comma + b'"image_id":' + orjson.dumps(image_id) + b"}"


def check_same_image(data: bytes, image_id: str, max_values: int) -> None:
    """Raises TooLarge, and BadInput where the body names another image than the path."""
    check_json_structure(data, max_values)
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return  # the check of the schema says where it is broken
    if isinstance(body, dict) and body.get("image_id", image_id) != image_id:
        raise BadInput(
            "The body names another image than the path.",
            field="image_id",
            remedy="Send image_id in the path alone.",
        )


@asynccontextmanager
async def open_large_json(
    request: Request, schema: type[Body], large_requests: LargeRequests
) -> AsyncIterator[Body]:
    """Read and check a JSON body as `read_json` does. A large one has its turn until the block has ended.

    Raises as `read_json` does, and Busy.
    """
    data = await read_json_bytes(request)
    async with large_requests.turn(len(data)):
        body, size_bytes = await check_json(data, schema), len(data)
        del data
        async with freed_slowly(body, schema.pieces, size_bytes):
            yield body


async def read_json_bytes(request: Request) -> bytes:
    if (media_type := read_media_type(request.headers.raw)) != JSON:
        raise UnsupportedFormat(
            f"The body cannot be read as {quote(media_type) if media_type else 'nothing in particular'}.",
            field="content-type",
            remedy="Send JSON with Content-Type: application/json.",
        )
    return await request.body()


async def check_json(data: bytes, schema: type[Body], image_id: str | None = None) -> Body:
    """Check JSON, off the event loop where it is large. Parameters and errors are those of `validate_json`."""
    if len(data) <= MAX_EVENT_LOOP_JSON_BYTES:
        return validate_json(data, schema, image_id)
    return await asyncio.to_thread(validate_json, data, schema, image_id)


def validate_json(data: bytes, schema: type[Body], image_id: str | None = None) -> Body:
    """Check JSON: first its size in values, then by its schema. Blocks.

    image_id: of the path, which the JSON need not have.

    Raises TooLarge, BadInput, RequestValidationError.
    """
    if image_id is not None:
        data = put_image_id(data, image_id, schema.max_values)
    check_json_structure(data, schema.max_values)
    try:
        return validate_text(data, schema, schema.pieces)
    except ValidationError as error:
        raise RequestValidationError(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in list_faults(error)]
        ) from None


@asynccontextmanager
async def open_image_upload(
    request: Request, fetcher: ImageFetcher, write_frame: WriteFrame
) -> AsyncIterator[BinaryIO]:
    """The image of a request as an open file: from a form, the body, fetched from the URL in its JSON, or the frame
    of a stored file that its JSON names."""
    media_type = read_media_type(request.headers.raw)
    if media_type == JSON:
        body = await read_json(request, FetchImageIn)
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file = cast(BinaryIO, spool)
            if body.url is not None:
                await fetcher.fetch(body.url, file)
            elif body.file_id is not None and body.frame is not None:
                await write_frame(FileView(body.file_id, body.axis, body.window), body.frame, file)
            yield file
        return
    is_image = media_type.startswith(("image/", "multipart/")) or media_type == "application/octet-stream"
    if media_type and not is_image:
        raise UnsupportedFormat(
            f"An image cannot be sent as {quote(media_type)}.",
            field="content-type",
            remedy="Send multipart/form-data with a field 'file', or the bytes as application/octet-stream.",
        )
    async with open_upload(request) as file:
        yield file


@asynccontextmanager
async def open_file_upload(request: Request, fetcher: DicomwebFetcher) -> AsyncIterator[BinaryIO]:
    """The file of a request as an open file: from a form, the body, or fetched from the server in its JSON."""
    if read_media_type(request.headers.raw) != JSON:
        async with open_upload(request) as file:
            yield file
        return
    named = (await read_json(request, FetchFileIn)).dicomweb
    with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
        await fetcher.fetch(DicomwebSource(named.url, named.study, named.series), cast(BinaryIO, spool))
        yield cast(BinaryIO, spool)


@asynccontextmanager
async def open_upload(request: Request) -> AsyncIterator[BinaryIO]:
    """The file of a request as an open file: field 'file' of a form, or the body itself."""
    if read_media_type(request.headers.raw) == "multipart/form-data":
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
