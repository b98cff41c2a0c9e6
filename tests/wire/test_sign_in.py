"""Signing in at an issuer over REST: the cookies, where the browser is sent, and what the audit log says."""

import json
import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.http_listener import listening
from tests.identity.fake_issuer import AUDIENCE, CLIENT, CLIENT_SECRET, FakeIssuer
from tests.serving import Server

OWN = {"Sec-Fetch-Site": "same-origin"}
CROSS = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
ISSUERS = "/v1/login/issuers"
WAIT_S = 60


@pytest.fixture(scope="module")
def issuer() -> Iterator[FakeIssuer]:
    issuer = FakeIssuer()
    issuer.secret = CLIENT_SECRET
    with listening(issuer):
        yield issuer


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, issuer: FakeIssuer) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sign-in")
    secret = folder / "secret"
    secret.write_text(CLIENT_SECRET)
    entry = {
        "issuer": issuer.url,
        "audience": AUDIENCE,
        "client_id": CLIENT,
        "client_secret_file": str(secret),
        "name": issuer.name,
    }
    running = Server(
        folder,
        oidc_issuers=json.dumps([entry]),
        trusted_proxies='["127.0.0.5"]',
        audit_log=str(folder / "audit.jsonl"),
    )
    yield running
    assert running.stop() == 0, running.log.read_text()
    log = running.log.read_text()
    assert "internal error" not in log
    assert CLIENT_SECRET not in log
    assert "callback?" not in log


def begin(service: Server, client: httpx.Client | None = None, **headers: str) -> tuple[str, Any]:
    """Return the issuer's address, and the cookie of the attempt."""
    answer = (client or service.client).post(f"{ISSUERS}/Fake", headers={**OWN, **headers})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    [cookie] = read_cookies(answer)
    service.client.cookies.clear()
    return answer.json()["url"], cookie


def read_cookies(answer: httpx.Response) -> list[Any]:
    return [next(iter(SimpleCookie(header).values())) for header in answer.headers.get_list("set-cookie")]


def come_back(
    service: Server, location: str, cookie: Any = None, client: httpx.Client | None = None, **headers: str
) -> httpx.Response:
    """Follow the issuer's redirect, as a browser does: from another site, with the cookie that is SameSite=Lax."""
    parts = urlsplit(location)
    sent = {} if cookie is None else {"Cookie": f"{cookie.key}={cookie.value}"}
    answer = (client or service.client).get(
        f"{parts.path}?{parts.query}", headers={**CROSS, **sent, **headers}, follow_redirects=False
    )
    service.client.cookies.clear()
    return answer


def visit(address: str) -> str:
    answer = httpx.get(address)
    assert answer.status_code == 303
    return answer.headers["location"]


def test_the_page_is_told_where_people_sign_in(service: Server, server: Server) -> None:
    assert service.client.get(ISSUERS).json() == {"issuers": [{"name": "Fake"}]}
    assert server.client.get(ISSUERS).json() == {"issuers": []}
    assert server.client.post(f"{ISSUERS}/Fake").status_code == 404
    unknown = service.client.post(f"{ISSUERS}/Another", headers=OWN)
    assert (unknown.status_code, "GET /v1/login/issuers" in unknown.json()["remedy"]) == (404, True)


def test_a_sign_in_becomes_the_cookie_of_a_login(service: Server) -> None:
    address, attempt = begin(service)
    assert (attempt.key, attempt["httponly"], attempt["samesite"]) == ("segserve-sign-in", True, "lax")
    assert (attempt["path"], attempt["max-age"]) == ("/", "600")
    location = visit(address)
    assert location.startswith(f"{service.url}/v1/login/issuers/Fake/callback?")
    answer = come_back(service, location, attempt)
    assert (answer.status_code, answer.headers["location"]) == (303, "/"), answer.text
    login, ended = read_cookies(answer)
    assert (login.key, login["httponly"], login["samesite"]) == ("segserve-login", True, "strict")
    assert 11 * 3600 < int(login["max-age"]) <= 12 * 3600
    assert (ended.key, ended.value, ended["max-age"]) == ("segserve-sign-in", "", "0")
    who = service.client.get("/v1/login", headers={**OWN, "Cookie": f"{login.key}={login.value}"})
    assert (who.json()["name"], who.json()["tenant"], who.json()["role"]) == ("anna", "lab-a", "annotator")
    # The browser has forgotten the attempt; who has kept it gets no second login of the code.
    for cookie, problem in ((None, "ended"), (attempt, "refused")):
        again = come_back(service, location, cookie)
        assert again.headers["location"] == f"/#sign-in={problem}"
        assert "segserve-login" not in str(again.headers)


def test_over_tls_both_cookies_are_secure_and_the_address_is_the_proxys(service: Server) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9", "Host": "127.0.0.1"}
    with service.client_from("127.0.0.5") as proxy:
        address, attempt = begin(service, proxy, **headers)
    assert (attempt.key, attempt["secure"]) == ("__Host-segserve-sign-in", True)
    [redirect] = parse_qs(urlsplit(address).query)["redirect_uri"]
    assert redirect == "https://127.0.0.1/v1/login/issuers/Fake/callback"


def test_other_pages_cannot_begin_a_sign_in(service: Server) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example.org"}):
        answer = service.client.post(f"{ISSUERS}/Fake", headers=headers)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_nothing_in_the_address_leads_elsewhere(service: Server) -> None:
    """No open redirect: wherever it began, and whatever the address says, the browser goes to the page."""
    for more in ("&next=https://evil.example.org", "&redirect_uri=//evil.example.org", "&state=x"):
        address, attempt = begin(service)
        answer = come_back(service, f"{visit(address)}{more}", attempt)
        assert answer.headers["location"] == ("/#sign-in=ended" if "state" in more else "/")


def test_what_went_wrong_is_a_word_of_ours(service: Server, issuer: FakeIssuer) -> None:
    for error, problem in (("access_denied", "denied"), ("<script>alert(1)</script>", "refused")):
        issuer.answer_with = {"error": error, "error_description": "call 555-0100"}
        address, attempt = begin(service)
        answer = come_back(service, visit(address), attempt)
        assert answer.headers["location"] == f"/#sign-in={problem}"
        assert not answer.content
        assert [cookie.key for cookie in read_cookies(answer)] == ["segserve-sign-in"]
    issuer.answer_with = None
    issuer.signed_in = {"role": None}
    address, attempt = begin(service)
    assert come_back(service, visit(address), attempt).headers["location"] == "/#sign-in=no_access"
    issuer.signed_in = {}


def read_audit(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_audit_log_says_who_signed_in(service: Server) -> None:
    address, attempt = begin(service)
    location = visit(address)
    come_back(service, location, attempt)
    come_back(service, location)
    path, deadline = service.log.parent / "audit.jsonl", time.monotonic() + WAIT_S
    while (
        len(rows := [row for row in read_audit(path) if row["route"] == f"{ISSUERS}/{{issuer}}/callback"]) < 2
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert {row["action"] for row in rows} == {"authenticate"}
    assert {"anna", "anonymous"} <= {row["name"] for row in rows}
    assert not any(row["ids"] for row in rows)


def test_many_refused_codes_slow_an_address_down(service: Server) -> None:
    with service.client_from("127.0.0.9") as guesser:
        statuses = []
        for _ in range(30):
            address, attempt = begin(service, guesser)
            location = httpx.URL(visit(address)).copy_merge_params({"code": "guessed"})
            statuses.append(come_back(service, str(location), attempt, guesser).status_code)
            guesser.cookies.clear()
    assert statuses[:20] == [303] * 20
    assert 429 in statuses
