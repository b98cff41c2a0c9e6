"""Routes of operations on an image: with the image_id in the body, and with it in the path."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from segserve.wire.http import request_body
from segserve.wire.rest.responses import ImageId

IN_PATH = (
    "The image_id is in the path, so that a load balancer can send all requests on an image to one replica."
)


class RequestRoute(APIRoute):
    """A route whose function takes the request and returns the response. It reads all that is in the request itself, so
    FastAPI resolves no parameters, which takes a fifth of a millisecond; it writes the OpenAPI document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        function: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return function


def image_id_in_path(image_id: ImageId) -> None:
    """Declare the parameter of the path; `read_json` puts it into the body, and checks it there."""


def add_image_route(
    api: FastAPI, operation: str, schema: type[BaseModel], **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds a function as POST /v1/OPERATION and as POST /v1/images/{image_id}/OPERATION.

    schema: of the body. options: of FastAPI's routes. The second route has a name and a summary of its own.
    """

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        name, summary = function.__name__, options.pop("summary")
        api.router.add_api_route(
            f"/v1/{operation}",
            function,
            methods=["POST"],
            name=name,
            summary=summary,
            openapi_extra=request_body.json_body_schema(schema),
            route_class_override=RequestRoute,
            **options,
        )
        api.router.add_api_route(
            f"/v1/images/{{image_id}}/{operation}",
            function,
            methods=["POST"],
            name=f"{name}_by_path",
            summary=f"{summary}, by the path",
            description=f"As POST /v1/{operation}. {IN_PATH}",
            dependencies=[Depends(image_id_in_path)],
            openapi_extra=request_body.json_body_schema(schema, has_id_in_path=True),
            route_class_override=RequestRoute,
            **options,
        )
        return function

    return add
