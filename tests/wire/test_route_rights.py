"""Who gets what: every route and every method of gRPC, by role.

The handlers of routes are replaced: what is asked is who reaches them.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from fastapi import FastAPI
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from segserve.app import Service
from segserve.identity.identity import Identity
from segserve.identity.rights import LABELLING, NO_RIGHTS, ROLE_RIGHTS, Right
from segserve.inference import inference_pb2
from segserve.settings import Settings
from segserve.types import AccessRole
from segserve.v1 import encoder_pb2, files_pb2, jobs_pb2, segmentation_pb2, usage_pb2
from segserve.wire.http.authentication import RightCheck, guard_routes
from segserve.wire.rest.api import create_api, create_operator_api
from segserve.wire.route_rights import METHOD_RIGHTS, OPEN, ROUTE_RIGHTS
from tests.key_files import IDENTITIES, write_key_file
from tests.serving import Server

REACHED = 299
NOBODY = "nobody"
# Its protocol says in the body that a request is refused.
ALWAYS_OK = ("POST", "/x-anylabeling/v1/predict")
SCOPED = Identity("default", AccessRole.ANNOTATOR, "scoped", Right.READ | Right.JOBS)
CALLERS = [*IDENTITIES, SCOPED]
# What each role may do, in the words of docs/keys.md.
EXPECTED_RIGHTS = {
    NOBODY: NO_RIGHTS,
    "annotator": LABELLING,
    "batch": LABELLING,
    "operator": ~NO_RIGHTS,
    "metrics": Right.METRICS,
    "stranger": LABELLING,
    "scoped": Right.READ | Right.JOBS,
}


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rights") / "keys.json"


@pytest.fixture(scope="module")
def tokens(keys_file: Path) -> dict[str, str]:
    return write_key_file(keys_file, CALLERS)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, keys_file: Path, tokens: dict[str, str]) -> Service:
    """A service that is not started: no handler of it runs."""
    return Service(Settings(data_dir=tmp_path_factory.mktemp("data"), keys_file=keys_file))


def replace_handlers(api: FastAPI) -> None:
    for route in api.routes:
        assert isinstance(route, Route)
        assert isinstance(route.app, RightCheck)
        route.app._app = PlainTextResponse("reached", REACHED)


@pytest.fixture(scope="module")
def api(service: Service) -> FastAPI:
    api = create_api(service)
    replace_handlers(api)
    return api


def list_rows(api: FastAPI) -> set[tuple[str, str]]:
    return {
        (method, route.path)
        for route in api.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }


def ask(api: ASGIApp, rows: list[tuple[str, str]], headers: dict[str, str]) -> dict[tuple[str, str], int]:
    """Return the status of each route, with all parameters of its path filled in."""

    async def ask_all() -> dict[tuple[str, str], int]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(api), base_url="http://127.0.0.1", headers=headers
        ) as client:
            return {
                (method, path): (await client.request(method, fill(path))).status_code
                for method, path in rows
            }

    return asyncio.run(ask_all())


def fill(path: str) -> str:
    return "/".join("a" if part.startswith("{") else part for part in path.split("/"))


def expected_status(caller: str, right: Right) -> int:
    if right == OPEN:
        return REACHED
    if caller == NOBODY:
        return 401
    return 403 if right & ~EXPECTED_RIGHTS[caller] else REACHED


def test_every_route_has_a_row_and_every_row_a_route(api: FastAPI) -> None:
    assert list_rows(api) == set(ROUTE_RIGHTS)


def test_a_route_without_a_row_cannot_be_added(api: FastAPI) -> None:
    more = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    more.add_api_route("/v1/secrets", lambda: {}, methods=["GET"])
    with pytest.raises(LookupError, match="GET /v1/secrets has no row"):
        guard_routes(more)
    mounted = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    mounted.mount("/files", PlainTextResponse("x"))
    with pytest.raises(LookupError, match="no route with a row"):
        guard_routes(mounted)


@pytest.mark.parametrize("caller", EXPECTED_RIGHTS)
def test_who_reaches_which_route(api: FastAPI, tokens: dict[str, str], caller: str) -> None:
    headers = {} if caller == NOBODY else {"Authorization": f"Bearer {tokens[caller]}"}
    expected = {row: expected_status(caller, right) for row, right in ROUTE_RIGHTS.items()}
    if expected[ALWAYS_OK] != REACHED:
        expected[ALWAYS_OK] = 200
    assert ask(api, list(ROUTE_RIGHTS), headers) == expected


def test_nobody_reaches_what_is_not_there(api: FastAPI, tokens: dict[str, str]) -> None:
    rows = [
        ("GET", "/v1/secrets"),
        ("PUT", "/livez"),
        ("DELETE", "/"),
        ("GET", "/livez/"),
    ]
    assert set(ask(api, rows, {}).values()) == {401}
    assert set(ask(api, rows, {"X-API-Key": tokens["operator"]}).values()) == {404, 405}


def test_the_operators_port(service: Service, tokens: dict[str, str]) -> None:
    api = create_operator_api(service)
    rows = sorted(list_rows(api))
    replace_handlers(api)
    for caller in EXPECTED_RIGHTS:
        headers = {} if caller == NOBODY else {"X-API-Key": tokens[caller]}
        assert ask(api, rows, headers) == {row: expected_status(caller, ROUTE_RIGHTS[row]) for row in rows}


def test_without_keys_everybody_reaches_everything(tmp_path: Path) -> None:
    api = create_api(Service(Settings(data_dir=tmp_path)))
    replace_handlers(api)
    assert set(ask(api, list(ROUTE_RIGHTS), {}).values()) == {REACHED}


def test_each_role_may_do_what_the_page_of_keys_says() -> None:
    for role, rights in ROLE_RIGHTS.items():
        assert rights == EXPECTED_RIGHTS[role]


SERVICES: list[ServiceDescriptor] = [
    service
    for module in (
        segmentation_pb2,
        files_pb2,
        jobs_pb2,
        usage_pb2,
        encoder_pb2,
        inference_pb2,
        health_pb2,
        reflection_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
]


def test_every_method_has_a_row_and_every_row_a_method() -> None:
    methods = {f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods}
    assert methods == set(METHOD_RIGHTS)


@pytest.fixture(scope="module")
def channel(
    tmp_path_factory: pytest.TempPathFactory, keys_file: Path, tokens: dict[str, str]
) -> Iterator[grpc.Channel]:
    server = Server(tmp_path_factory.mktemp("grpc"), grpc_port="0", keys_file=str(keys_file))
    with grpc.insecure_channel(server.grpc_address()) as channel:
        yield channel
    assert server.stop() == 0
    assert "internal error" not in server.log.read_text()


@pytest.mark.parametrize("caller", EXPECTED_RIGHTS)
def test_who_reaches_which_method(channel: grpc.Channel, tokens: dict[str, str], caller: str) -> None:
    """An empty message is a wrong request to most methods: whoever gets that answer was let in."""
    metadata = [] if caller == NOBODY else [("authorization", f"Bearer {tokens[caller]}")]
    refusals = {401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED, REACHED: None}
    for method, right in METHOD_RIGHTS.items():
        if "Encoder" in method or method.endswith("Health/Watch"):  # not of the API; has no end
            continue
        code = call(channel, method, metadata)
        assert (code if code in refusals.values() else None) == refusals[expected_status(caller, right)], (
            method,
            code,
        )


def call(channel: grpc.Channel, method: str, metadata: list[tuple[str, str]]) -> grpc.StatusCode:
    answers = channel.stream_stream(method)(iter([b""]), metadata=metadata, timeout=60)
    try:
        for _ in answers:
            pass
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK
