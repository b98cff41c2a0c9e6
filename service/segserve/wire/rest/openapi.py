"""The OpenAPI document, in a form from which generators make good clients (TypeScript, Python)."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from segserve.wire.http.host_and_origin import SAFE_METHODS
from segserve.wire.http.middleware import request_kind
from segserve.wire.http.request_body import COMPONENTS, name_without_image_id
from segserve.wire.rest.responses import problem_responses
from segserve.wire.route_rights import OPEN, ROUTE_RIGHTS
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.examples import EXAMPLES
from segserve.wire.schemas.files import BeginUploadIn, FetchFileIn
from segserve.wire.schemas.images import FetchImageIn
from segserve.wire.schemas.instances import InstancesIn
from segserve.wire.schemas.jobs import JobIn
from segserve.wire.schemas.login import LinkIn, LoginIn
from segserve.wire.schemas.problems import ProblemOut
from segserve.wire.schemas.propagation import AddPromptsIn
from segserve.wire.schemas.segment import SegmentIn
from segserve.wire.schemas.semantic import SemanticIn
from segserve.wire.schemas.similar import SimilarIn

# The bodies that routes read by `request_body.read_json`. FastAPI does not know them.
BODIES = (
    SegmentIn,
    AutomaticIn,
    SimilarIn,
    SemanticIn,
    InstancesIn,
    JobIn,
    AddPromptsIn,
    LoginIn,
    LinkIn,
    FetchImageIn,
    FetchFileIn,
    BeginUploadIn,
)
# Those of routes that have the image_id in the path too.
IMAGE_BODIES = (SegmentIn, AutomaticIn, SimilarIn, SemanticIn, InstancesIn)
LICENCE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
SERVERS = [{"url": "/", "description": "The service that this document comes from."}]
TAGS = [
    {"name": "images", "description": "Upload an image once; every other request names it by its image_id."},
    {"name": "segment", "description": "Points, boxes and masks become masks."},
    {"name": "whole images", "description": "All objects of an image, or a class for every pixel."},
    {"name": "files", "description": "Videos, stacks, volumes and zips, for jobs."},
    {"name": "jobs", "description": "Long work in the background."},
    {"name": "models", "description": "The models, and what to decode embeddings with."},
    {"name": "identity", "description": "Who sends a request; logins of pages, and links."},
    {"name": "operation", "description": "For operators, load balancers and Prometheus."},
]

Json = dict[str, Any]


def operation_id(route: APIRoute) -> str:
    """Return the name of the route, which is that of its function: clients name their methods by it."""
    return route.name


# How a request says who sends it. /docs has a field for each.
SECURITY_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key: segserve keys add"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key, in another header"},
}


class Api(FastAPI):
    """FastAPI whose OpenAPI document has the schemas of BODIES too, and examples everywhere."""

    def openapi(self) -> Json:
        if not self.openapi_schema:
            document = super().openapi()
            components = document["components"]["schemas"]
            components.update(json_components(BODIES, "validation"))
            components.update(json_components([ProblemOut], "serialization"))
            examples = dict(EXAMPLES)
            for schema in IMAGE_BODIES:
                add_without_image_id(schema.__name__, components, examples)
            drop_defaults(components)
            write_tuples_as_arrays(components)
            add_refusals_of_middleware(document)
            add_examples(document, components, examples)
            document["components"]["securitySchemes"] = SECURITY_SCHEMES
            # None of them too: on loopback no keys are asked for.
            document["security"] = [{}, *({name: []} for name in SECURITY_SCHEMES)]
            self.openapi_schema = document
        return self.openapi_schema


def add_refusals_of_middleware(document: Json) -> None:
    """Add the refusals that come before a route is reached, so that no route lists them: of whoever sends no key (401),
    may not do this or is a page of another origin (403), comes too often (429), or finds no free slot (503).

    A client that is generated returns None for a status that the document lacks.
    """
    for path, operations in document["paths"].items():
        for name, operation in operations.items():
            method = name.upper()
            statuses = list[int]()
            if ROUTE_RIGHTS[method, path] != OPEN:
                statuses += (401, 403)
            elif method not in SAFE_METHODS:
                statuses += (403,)
            if request_kind(method, path) is not None:
                statuses += (429, 503)
            refusals = {str(status): answer for status, answer in problem_responses(*statuses).items()}
            responses = {**refusals, **operation["responses"]}
            operation["responses"] = {status: responses[status] for status in sorted(responses)}


def json_components(schemas: Sequence[type[BaseModel]], mode: Any) -> Json:
    """Return the OpenAPI components of these schemas and of all they refer to, by name."""
    _, document = models_json_schema([(schema, mode) for schema in schemas], ref_template=COMPONENTS)
    components: Json = document["$defs"]
    return components


def drop_defaults(components: Json) -> None:
    """Move the defaults of fields into their descriptions.

    Generators make a field with a default one that must be there: TypeScript's would have to be sent, Python's is
    sent always, even when the service has another default by then.
    """
    for schema in components.values():
        for field in schema.get("properties", {}).values():
            default = field.pop("default", None)
            if isinstance(default, str | int | float) and "description" in field:
                shown = str(default).lower() if isinstance(default, bool) else default
                field["description"] += f" (default: {shown})"


def write_tuples_as_arrays(schema: Any) -> None:
    """Describe tuples whose items are of one kind, such as points, as arrays of so many items.

    In TypeScript neither a computed [x, y] nor a size that openapi-fetch has answered is a tuple without a cast.
    """
    if isinstance(schema, list):
        for part in schema:
            write_tuples_as_arrays(part)
    elif isinstance(schema, dict):
        items = schema.get("prefixItems")
        if items and all(item == items[0] for item in items):
            schema["items"] = schema.pop("prefixItems")[0]
        for part in schema.values():
            write_tuples_as_arrays(part)


def add_without_image_id(name: str, components: Json, examples: dict[str, list[Json]]) -> str:
    """Add the body without its image_id, for the route that has it in its path, and its examples. Return its name."""
    new_name = name_without_image_id(name)
    schema = deepcopy(components[name])
    if options := schema.get("oneOf"):
        schema["oneOf"] = [
            {"$ref": COMPONENTS.format(model=add_without_image_id(ref_name(option), components, examples))}
            for option in options
        ]
    else:
        del schema["properties"]["image_id"]
        schema["required"] = [field for field in schema["required"] if field != "image_id"]
    components[new_name] = {**schema, "title": new_name}
    if name in examples:
        examples[new_name] = [
            {field: value for field, value in example.items() if field != "image_id"}
            for example in examples[name]
        ]
    return new_name


def ref_name(schema: Json) -> str:
    """Return the name of the component that a schema refers to."""
    name: str = schema["$ref"].rpartition("/")[2]
    return name


def add_examples(document: Json, components: Json, all_examples: dict[str, list[Json]]) -> None:
    """Give each JSON body and answer the examples of its schema."""
    for content in json_contents(document):
        names = list(schema_names(content["schema"], components))
        examples = [(name, value) for name in names for value in all_examples.get(name, [])]
        if examples:
            content["examples"] = {name: {"value": value} for name, value in examples}


def json_contents(document: Json) -> Iterator[Json]:
    """Yield the media type objects of all JSON bodies and answers."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for part in (operation.get("requestBody", {}), *operation["responses"].values()):
                for media_type, content in part.get("content", {}).items():
                    if media_type.endswith("json") and "schema" in content:
                        yield content


def schema_names(schema: Json, components: Json) -> Iterator[str]:
    """Yield the names of the components that a schema is, or is one of."""
    for option in (schema, *schema.get("anyOf", []), *schema.get("oneOf", [])):
        if "$ref" in option:
            name = ref_name(option)
            yield name
            yield from (inner for inner in schema_names(components[name], components) if inner != name)
