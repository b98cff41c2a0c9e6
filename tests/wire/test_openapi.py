"""The OpenAPI document has what clients are generated from: names, examples, descriptions, shared schemas."""

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from segserve.app import Service
from segserve.settings import Settings
from segserve.wire.rest.api import create_api
from segserve.wire.schemas.examples import EXAMPLES


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), redis_url="unix:///nowhere")
    return create_api(Service(settings)).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, by_method in document["paths"].items():
        for method, operation in by_method.items():
            yield f"{method} {path}", operation


def test_it_names_licence_and_servers(document: dict[str, Any]) -> None:
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    assert document["servers"]


def test_every_operation_has_a_name_a_summary_and_a_description_of_its_own(document: dict[str, Any]) -> None:
    for key in ("operationId", "summary", "description"):
        counts = Counter(operation[key] for _, operation in operations(document))
        assert counts.most_common(1)[0][1] == 1, counts.most_common(1)
    for _, operation in operations(document):
        assert operation["operationId"].isidentifier()


def test_every_field_and_every_parameter_is_described(document: dict[str, Any]) -> None:
    missing = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, content in schema.get("properties", {}).items()
        if not content.get("description")
    ]
    for name, operation in operations(document):
        missing += [
            f"{name} {p['name']}" for p in operation.get("parameters", []) if not p.get("description")
        ]
    assert missing == []


def test_fields_that_may_be_left_out_have_no_default(document: dict[str, Any]) -> None:
    """openapi-typescript makes a field with a default one that must be sent."""
    for name, schema in document["components"]["schemas"].items():
        for field, content in schema.get("properties", {}).items():
            assert "default" not in content, f"{name}.{field}"


def test_there_are_no_tuples(document: dict[str, Any]) -> None:
    assert "prefixItems" not in json.dumps(document)


def test_refusals_share_one_schema(document: dict[str, Any]) -> None:
    reference = {"$ref": "#/components/schemas/ProblemOut"}
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and (name, status) != ("get /readyz", "503"):
                assert answer["content"]["application/problem+json"]["schema"] == reference, name


def test_refusals_that_come_before_a_route_are_on_every_route_that_has_them(document: dict[str, Any]) -> None:
    open_ones = {
        name
        for name, operation in operations(document)
        if not {"401", "403"} <= operation["responses"].keys()
    }
    assert open_ones == {
        "get /livez",
        "get /readyz",
        "get /v1/login/issuers",
        "post /v1/login/issuers/{issuer}",
        "delete /v1/login",
    }
    for name, operation in operations(document):
        if "/v1/" in name:
            for status in ("429", "503"):
                assert "Retry-After" in operation["responses"][status]["headers"], name
        if not name.startswith("get"):
            assert "403" in operation["responses"], name


def test_every_reference_leads_to_a_component(document: dict[str, Any]) -> None:
    def references(part: Any) -> Iterator[str]:
        for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from references(value)
        if isinstance(part, dict) and isinstance(part.get("$ref"), str):
            yield part["$ref"]

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def test_every_route_has_examples_that_fit_their_schema(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        parts = [operation.get("requestBody", {}), *operation["responses"].values()]
        for part in parts:
            for media_type, content in part.get("content", {}).items():
                if media_type.endswith("json") and "$ref" in json.dumps(content["schema"]):
                    assert content["examples"], name
                    schema = {**content["schema"], "components": document["components"]}
                    for example in content["examples"].values():
                        Draft202012Validator(schema).validate(example["value"])
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                assert parameter["schema"].get("examples") or parameter.get("example"), name


def test_every_example_is_used(document: dict[str, Any]) -> None:
    text = json.dumps(document["paths"])
    assert [name for name in EXAMPLES if f'"{name}": {{"value"' not in text] == []


def test_the_example_image_is_the_one_in_the_repository(nuclei: Path) -> None:
    [example] = EXAMPLES["ImageOut"]
    assert example["image_id"] == sha256(nuclei.read_bytes()).hexdigest()
