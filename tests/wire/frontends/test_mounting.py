"""What all frontends share: slots, refusals in the protocol's own form, checks of Host and Origin, the setting."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from segserve.request_limits import RequestKind
from segserve.types import FrontendName
from segserve.wire.frontends.mounting import FRONTENDS, find_frontend, with_frontends
from segserve.wire.http.middleware import request_kind
from tests.serving import Server
from tests.wire.raw_http import connect, read_until_closed

every_frontend = pytest.mark.parametrize("frontend", FRONTENDS, ids=lambda frontend: frontend.name)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("without"), frontends="[]", preload="[]")
    yield running
    assert running.stop() == 0, running.log.read_text()


def test_there_is_one_frontend_for_each_name_and_prefix() -> None:
    assert {frontend.name for frontend in FRONTENDS} == set(FrontendName)
    assert len({frontend.prefix for frontend in FRONTENDS}) == len(FRONTENDS)


@every_frontend
def test_a_prefix_is_a_part_of_a_path(frontend) -> None:  # type: ignore[no-untyped-def]
    assert find_frontend(FRONTENDS, frontend.prefix) is frontend
    assert find_frontend(FRONTENDS, f"{frontend.prefix}/x") is frontend
    assert find_frontend(FRONTENDS, f"{frontend.prefix}x") is None


@every_frontend
def test_its_requests_take_slots(frontend) -> None:  # type: ignore[no-untyped-def]
    kind_of = with_frontends(request_kind, FRONTENDS)
    assert kind_of("POST", f"{frontend.prefix}/x") is not None
    assert kind_of("POST", "/v1/segment") is RequestKind.CLICK
    assert kind_of("GET", "/metrics") is None


@every_frontend
@pytest.mark.parametrize(
    "headers",
    [{}, {"host": "attacker.example"}, {"origin": "https://evil.example"}],
    ids=["unknown", "host", "origin"],
)
def test_refusals_have_the_form_of_the_protocol(server: Server, frontend, headers: dict[str, str]) -> None:  # type: ignore[no-untyped-def]
    answer = server.client.post(f"{frontend.prefix}/no/such/path", headers=headers, content=b"x")
    assert answer.headers["content-type"] == "application/json"
    assert "type" not in answer.json()
    text = answer.text
    assert "attacker" in text or "origin" in text or "Not Found" in text


@every_frontend
def test_bodies_are_limited(server: Server, frontend) -> None:  # type: ignore[no-untyped-def]
    head = f"POST {frontend.prefix}/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n"
    with closing(connect(server)) as link:
        link.sendall(f"{head}Connection: close\r\n\r\n".encode())
        answer = read_until_closed(link)
    assert b"application/json" in answer
    assert b"The body is over" in answer


def test_the_metrics_know_the_refusals_own_status(server: Server) -> None:
    line = 'segserve_requests_total{method="GET",model="",problem="not_found",route="/v2/models/{model}",status="404"}'
    before = server.metric(line.replace("not_found", "model_not_found"))
    assert server.client.get("/v2/models/none").status_code == 404
    assert server.metric(line.replace("not_found", "model_not_found")) == before + 1


@every_frontend
def test_without_the_setting_there_is_none(without: Server, frontend) -> None:  # type: ignore[no-untyped-def]
    answer = without.client.get(frontend.prefix)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
