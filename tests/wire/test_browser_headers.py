"""What browsers may do: CORS, Content-Security-Policy, and the warning of an address that is open to all."""

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256

import httpx
import pytest

from tests.serving import Server
from tests.wire.responses import assert_refused


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is open to other machines, and to the pages of one other origin."""
    origins = '["https://labels.example.org"]'
    running = Server(tmp_path_factory.mktemp("public"), host="0.0.0.0", insecure="true", cors_origins=origins)
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def read_policy(answer: httpx.Response) -> dict[str, list[str]]:
    parts = answer.headers["content-security-policy"].split(";")
    return {words[0]: words[1:] for part in parts if (words := part.split())}


def test_every_answer_has_security_headers(server: Server) -> None:
    for path in ("/", "/docs", "/livez", "/v1/models", "/v1/images/none", "/nothing"):
        answer = server.client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        assert read_policy(answer)["frame-ancestors"] == ["'none'"]
        assert read_policy(answer)["default-src"] == ["'none'"]


def test_a_script_may_load_its_own_modules_and_webassembly_as_a_worker(server: Server) -> None:
    policy = read_policy(server.client.get("/docs/swagger-ui-bundle.js"))
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == ["'self'", "'wasm-unsafe-eval'"]
    assert policy["connect-src"] == ["'self'"]


def test_docs_load_everything_from_this_service(server: Server) -> None:
    answer = server.client.get("/docs")
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    policy = read_policy(answer)
    [inline] = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = b64encode(sha256(inline.encode()).digest()).decode()
    assert policy["script-src"] == ["'self'", f"'sha256-{digest}'"]
    assert not [source for sources in policy.values() for source in sources if "//" in source]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    kinds = {path.rpartition(".")[2]: server.client.get(path).headers["content-type"] for path in loaded}
    assert kinds == {
        "js": "text/javascript; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "png": "image/png",
    }
    assert "SwaggerUIBundle" in server.client.get("/docs/swagger-ui-bundle.js").text
    assert server.client.get("/openapi.json").status_code == 200


def test_pages_of_allowed_origins_may_call_the_api(public: Server) -> None:
    origin = {"origin": "https://labels.example.org"}
    answer = public.client.get("/v1/models", headers=origin)
    assert answer.headers["access-control-allow-origin"] == origin["origin"]
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    rates = {"RateLimit", "RateLimit-Policy"}
    own = {"Segserve-Areas", "Segserve-Hints", "Segserve-Scale", "Segserve-Tiled"}
    others = {"WWW-Authenticate", "Content-Disposition"}
    assert set(exposed) == {"ETag", "Server-Timing", "X-Request-ID", "Retry-After", *rates, *own, *others}
    preflight = {
        **origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    assert public.client.options("/v1/segment", headers=preflight).status_code == 200
    missing = public.client.get("/v1/images/none", headers=origin)
    assert missing.headers["access-control-allow-origin"] == origin["origin"], "errors can be read too"


def test_pages_of_other_origins_may_not_call_the_api(public: Server) -> None:
    other = {"origin": "https://example.com"}
    assert "access-control-allow-origin" not in public.client.get("/v1/models", headers=other).headers
    preflight = {**other, "access-control-request-method": "POST"}
    assert public.client.options("/v1/segment", headers=preflight).status_code == 400
    refusals = [line for line in public.log.read_text().splitlines() if "origin_not_allowed" in line]
    assert len(refusals) == 2, "neither the page nor its developer is told why"
    assert all("example.com" in line and "SEGSERVE_CORS_ORIGINS" in line for line in refusals)


def test_a_refused_preflight_names_the_header(public: Server) -> None:
    preflight = {
        "origin": "https://labels.example.org",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type, traceparent, tracestate, baggage",
    }
    assert public.client.options("/v1/segment", headers=preflight).status_code == 200
    preflight["access-control-request-headers"] += ",x-own"
    problem = assert_refused(
        public.client.options("/v1/segment", headers=preflight), 400, "preflight_refused", "x-own"
    )
    assert "'x-own'" in problem["detail"]
    assert "x-own" in public.log.read_text()


def test_operators_are_warned_of_an_open_address_without_keys(public: Server, server: Server) -> None:
    ready = public.client.get("/readyz").json()
    assert ready["status"] == "ready"
    assert ready["checks"]["keys"] == "none: anyone who can reach this address can use the service"
    assert "anyone who can reach this address" in public.log.read_text()
    assert "keys" not in server.client.get("/readyz").json()["checks"]
