"""Pages that a user visits cannot use the service through the user's browser: Host, Origin and Sec-Fetch-Site."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from segserve.settings import Settings
from segserve.wire.http.host_and_origin import HostNames, parse_host
from tests.serving import Server
from tests.wire.raw_http import connect, read_until_closed
from tests.wire.responses import assert_refused

LABELS = "https://labels.example.org"
EVIL = "https://evil.example"
READS = [
    "/",
    "/docs",
    "/openapi.json",
    "/v1/models",
    "/v1/jobs",
    "/v1/images/{image}/embedding",
    "/v1/images/{image}",
]
OPERATORS = ["/livez", "/readyz", "/metrics"]
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s\r\n--b--\r\n'


@pytest.fixture(scope="module")
def image_id(server: Server, nuclei: Path) -> str:
    return server.upload(nuclei)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """On every address, with names of its own, and open to the pages of one other origin."""
    running = Server(
        tmp_path_factory.mktemp("named"),
        host="0.0.0.0",
        insecure="true",
        allowed_hosts='["segserve.example.org", "*.lab.example"]',
        cors_origins=f'["{LABELS}"]',
    )
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def rejections(server: Server, reason: str) -> float:
    return server.metric(f'segserve_rejections_total{{reason="{reason}"}}')


# Host: DNS rebinding.


@pytest.mark.parametrize("path", READS)
def test_a_rebound_page_can_read_nothing(server: Server, image_id: str, path: str) -> None:
    host = {"host": "attacker.example:8000"}
    answer = server.client.get(path.format(image=image_id), headers=host)
    assert_refused(answer, 421, "host_not_allowed", "host")


def test_a_rebound_page_can_change_nothing(server: Server, image_id: str) -> None:
    evil = {
        "host": "attacker.example:8000",
        "origin": "http://attacker.example:8000",
        "sec-fetch-site": "same-origin",
    }
    before = rejections(server, "host")
    assert server.client.delete(f"/v1/images/{image_id}", headers=evil).status_code == 421
    assert server.client.post("/v1/images", content=b"x", headers=evil).status_code == 421
    assert server.client.post("/v1/jobs", json={}, headers=evil).status_code == 421
    assert rejections(server, "host") == before + 3
    assert "status=421" in server.log.read_text()
    assert server.client.get(f"/v1/images/{image_id}").status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "segserve.localhost:80", "127.0.0.1", "127.9.9.9:8000", "[::1]:8000"]
)
def test_loopback_names_work(server: Server, host: str) -> None:
    assert server.client.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evillocalhost",
        "10.0.0.1",
        "0.0.0.0:8000",
        "2130706433",
    ],
)
def test_names_that_only_look_like_loopback_do_not_work(server: Server, host: str) -> None:
    assert server.client.get("/v1/models", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("path", OPERATORS)
def test_operators_may_call_it_by_any_name(server: Server, path: str) -> None:
    assert server.client.get(path, headers={"host": "api.namespace.svc:8000"}).status_code == 200


@pytest.mark.parametrize(
    "hosts",
    [
        b"",
        b"Host: localhost\r\nHost: localhost\r\n",
        b"Host: localhost\r\nhost: evil\r\n",
        b"Host: \r\n",
        b"Host: a b\r\n",
        b"Host: user@localhost\r\n",
        b"Host: localhost/\r\n",
        b"Host: localhost:a\r\n",
    ],
)
def test_a_missing_second_or_malformed_host_is_refused(server: Server, hosts: bytes) -> None:
    with closing(connect(server)) as link:
        link.sendall(b"GET /v1/models HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
        answer = read_until_closed(link)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"urn:segserve:problem:bad_host" in answer


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: localhost\r\n"])
def test_operators_send_one_host_too(server: Server, hosts: bytes) -> None:
    with closing(connect(server)) as link:
        link.sendall(b"GET /livez HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
        assert read_until_closed(link).startswith(b"HTTP/1.1 400 ")


def test_a_health_check_of_http_1_0_needs_no_host(server: Server) -> None:
    with closing(connect(server)) as link:
        link.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert read_until_closed(link).startswith(b"HTTP/1.1 200 ")


def test_the_names_of_the_setting_work(named: Server) -> None:
    for host in (
        "segserve.example.org",
        "SEGSERVE.example.org.:443",
        "a.lab.example",
        "b.a.lab.example",
        "localhost",
    ):
        assert named.client.get("/v1/models", headers={"host": host}).status_code == 200, host
    for host in (
        "evil.example",
        "lab.example",
        "evillab.example",
        "segserve.example.org.evil.example",
        "10.9.8.7",
    ):
        assert named.client.get("/v1/models", headers={"host": host}).status_code == 421, host


def test_the_address_that_a_connection_arrived_at_works(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0", allowed_hosts=("segserve.example.org",))
    hosts = HostNames(settings)
    assert hosts.allow("10.1.2.3", "10.1.2.3")
    assert not hosts.allow("10.1.2.3", "10.1.2.4")
    assert HostNames(Settings(data_dir=tmp_path, host="192.168.7.7", allowed_hosts=("x",))).allow(
        "192.168.7.7", None
    )
    assert parse_host("[2001:DB8::1]:80") == "2001:db8::1"
    assert hosts.allow("2001:db8::1", "2001:db8:0::1")


def test_an_exposed_service_without_names_accepts_any_host_and_warns(tmp_path: Path, named: Server) -> None:
    exposed = Server(tmp_path, host="0.0.0.0", insecure="true")
    try:
        assert exposed.client.get("/v1/models", headers={"host": "segserve.example.org"}).status_code == 200
        assert "SEGSERVE_ALLOWED_HOSTS" in exposed.log.read_text()
        assert "SEGSERVE_ALLOWED_HOSTS" not in named.log.read_text()
    finally:
        exposed.stop()


def test_slashes_are_not_redirected_to_the_clients_host(server: Server, named: Server) -> None:
    for running in (server, named):
        answer = running.client.get("/v1/models/")
        assert_refused(answer, 404, "not_found")
        assert "location" not in answer.headers


# Origin and Sec-Fetch-Site: CSRF.


def cross_site_bodies(picture: bytes) -> list[tuple[str, bytes, dict[str, str]]]:
    """Requests that browsers send without a preflight."""
    return [
        ("/v1/images?model=starter", FORM % picture, {"content-type": "multipart/form-data; boundary=b"}),
        ("/v1/files", FORM % picture, {"content-type": "multipart/form-data; boundary=b"}),
        ("/v1/images", picture, {}),
        ("/v1/files", picture, {}),
        ("/v1/segment", b"{}", {"content-type": "text/plain"}),
        ("/v1/jobs/AAAAAAAAAAAAAAAA/retry", b"", {}),
    ]


@pytest.mark.parametrize(
    "marks",
    [
        {"origin": EVIL, "sec-fetch-site": "cross-site"},
        {"origin": EVIL},
        {"origin": EVIL, "sec-fetch-site": "same-origin"},
        {"origin": "null"},
        {"origin": "null", "sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://localhost:1", "sec-fetch-site": "same-site"},
        {"origin": "http://[broken"},
        {"origin": ""},
    ],
    ids=str,
)
def test_pages_of_other_origins_can_send_nothing(server: Server, nuclei: Path, marks: dict[str, str]) -> None:
    before = rejections(server, "origin")
    for path, body, headers in cross_site_bodies(nuclei.read_bytes()):
        answer = server.client.post(path, content=body, headers={**headers, **marks})
        assert_refused(answer, 403, "origin_not_allowed", "origin")
    assert server.client.delete("/v1/images/none", headers=marks).status_code == 403
    assert server.client.put("/v1/images/none", headers=marks).status_code == 403
    assert server.client.patch("/v1/images/none", headers=marks).status_code == 403
    assert rejections(server, "origin") == before + len(cross_site_bodies(b"")) + 3


def test_the_services_own_page_and_programs_are_served(server: Server, nuclei: Path) -> None:
    own = server.url.lower()
    for marks in (
        {},
        {"origin": own},
        {"origin": own, "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"origin": own.replace("http://", "https://")},  # behind a proxy that speaks TLS
    ):
        answer = server.client.post("/v1/images", content=nuclei.read_bytes(), headers=marks)
        assert answer.status_code == 201, marks


def test_two_origins_are_both_checked(server: Server) -> None:
    headers = httpx.Headers([("origin", server.url), ("origin", EVIL)])
    assert server.client.delete("/v1/images/none", headers=headers).status_code == 403


def test_pages_of_an_allowed_origin_are_served(named: Server, nuclei: Path) -> None:
    marks = {"origin": LABELS, "sec-fetch-site": "cross-site"}
    answer = named.client.post("/v1/images", content=nuclei.read_bytes(), headers=marks)
    assert answer.status_code == 201
    assert answer.headers["access-control-allow-origin"] == LABELS
    for origin in (EVIL, f"{LABELS}.evil.example", LABELS.replace("https", "http"), f"{LABELS}:444", "null"):
        refused = named.client.post("/v1/images", content=b"x", headers={**marks, "origin": origin})
        assert refused.status_code == 403, origin


def test_only_pages_of_allowed_origins_may_load_answers(named: Server) -> None:
    def policy(**headers: str) -> str:
        answer = named.client.get("/v1/models", headers=headers)
        return str(answer.headers["cross-origin-resource-policy"])

    assert policy() == "same-origin"
    assert policy(origin=EVIL) == "same-origin"
    assert policy(referer=f"{EVIL}/{LABELS}/") == "same-origin"
    assert policy(origin=EVIL, referer=f"{LABELS}/") == "same-origin"
    assert policy(origin=LABELS) == "cross-origin"
    assert policy(referer=f"{LABELS}/project/1") == "cross-origin"


@pytest.mark.parametrize("header", ["idempotency-key", "last-event-id", "content-type", "x-request-id"])
def test_preflights_allow_the_headers_of_the_api(named: Server, header: str) -> None:
    preflight = {
        "origin": LABELS,
        "access-control-request-method": "POST",
        "access-control-request-headers": header,
    }
    assert named.client.options("/v1/jobs", headers=preflight).status_code == 200
    assert named.client.options("/v1/jobs", headers={**preflight, "origin": EVIL}).status_code == 400


def test_the_address_of_the_machine_works(named: Server) -> None:
    """As a probe calls a pod: by the address that the connection arrives at."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address besides loopback")
        address = probe.getsockname()[0]
    port = named.url.rpartition(":")[2]
    assert httpx.get(f"http://{address}:{port}/v1/models").status_code == 200
