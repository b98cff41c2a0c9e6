"""JSON bodies of other tools' requests: bounded, then read, then checked."""

import asyncio
from typing import Any, TypeVar

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from segserve.errors import BadInput
from segserve.wire.http.json_structure import check_json_structure
from segserve.wire.http.limits import MAX_EVENT_LOOP_JSON_BYTES
from segserve.wire.http.problems import list_faults

# Values of a body: prompts, and the frames of a video. Pixels come as text, which is one value.
MAX_VALUES = 1 << 16

Body = TypeVar("Body", bound="ClientBody")


class ClientBody(BaseModel):
    """A body of another tool. Its versions send fields that nobody here knows: those are ignored."""

    model_config = ConfigDict(extra="ignore")


async def read_client_json(request: Request, schema: type[Body], max_values: int = MAX_VALUES) -> Body:
    """Read and check a JSON body, whatever type it states: not every client states one.

    Raises TooLarge, BadInput, RequestValidationError.
    """
    data = await request.body()
    if len(data) <= MAX_EVENT_LOOP_JSON_BYTES:
        return parse_body(data, schema, max_values)
    return await asyncio.to_thread(parse_body, data, schema, max_values)


def parse_body(data: bytes, schema: type[Body], max_values: int = MAX_VALUES) -> Body:
    """Raises as `read_client_json` does."""
    try:
        return schema.model_validate(parse_json(data, max_values))
    except ValidationError as error:
        raise RequestValidationError(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in list_faults(error)]
        ) from None


def parse_json(data: bytes, max_values: int = MAX_VALUES) -> Any:
    """Parse JSON of bounded size. Raises TooLarge, BadInput."""
    check_json_structure(data, max_values)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"The body is not JSON: {error}.", remedy="Send a JSON object.") from None
