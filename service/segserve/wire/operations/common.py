"""The check of requests that do not come over REST."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from segserve.wire.http.json_pieces import validate_text
from segserve.wire.http.problems import InvalidRequest, list_faults

Schema = TypeVar("Schema", bound=BaseModel)


def validate_body(schema: type[Schema], content: dict[str, Any] | bytes) -> Schema:
    """Check a request from gRPC, the command line or a batch as if it were the body of a REST request.

    content: the fields, or JSON.

    Raises BadInput naming the field at fault.
    """
    try:
        if isinstance(content, bytes):
            return validate_text(content, schema, getattr(schema, "pieces", {}))
        return schema.model_validate(content)
    except ValidationError as error:
        raise InvalidRequest(list_faults(error), "/docs, proto/segserve/v1 or --help") from None
