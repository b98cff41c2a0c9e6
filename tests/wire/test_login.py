"""Logins of the page, links and tokens, on a service that asks for keys and trusts an issuer on loopback."""

import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest

from segserve.identity.identity import Identity
from segserve.identity.key_file import change_keys
from segserve.types import AccessRole
from tests.http_listener import listening
from tests.identity.fake_issuer import AUDIENCE, FakeIssuer
from tests.key_files import write_key_file
from tests.serving import Server

OWN = {"Sec-Fetch-Site": "same-origin"}
LOGIN = "/v1/login"
CHANGE_TIMEOUT_S = 60
PEOPLE = (
    Identity("lab-a", AccessRole.ANNOTATOR, "anna"),
    Identity("lab-b", AccessRole.ANNOTATOR, "bert"),
    Identity("lab-a", AccessRole.ANNOTATOR, "leaver"),
)


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def keys(keys_file: Path) -> dict[str, str]:
    return write_key_file(keys_file, PEOPLE)


@pytest.fixture(scope="module")
def issuer() -> Iterator[FakeIssuer]:
    issuer = FakeIssuer()
    with listening(issuer):
        yield issuer


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, keys_file: Path, keys: dict[str, str], issuer: FakeIssuer
) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("login"),
        keys_file=str(keys_file),
        oidc_issuers=f'[{{"issuer": "{issuer.url}", "audience": "{AUDIENCE}"}}]',
        trusted_proxies='["127.0.0.5"]',
        cors_origins='["https://labels.example.org"]',
    )
    yield running
    assert running.stop() == 0, running.log.read_text()
    log = running.log.read_text()
    assert "internal error" not in log
    assert not any(key.rpartition("_")[2] in log for key in keys.values())
    assert "link=" not in log


@pytest.fixture(scope="module")
def image_id(service: Server, keys: dict[str, str], nuclei: Path) -> str:
    answer = service.client.post(
        "/v1/images", content=nuclei.read_bytes(), headers={"Authorization": f"Bearer {keys['anna']}"}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["image_id"])


def log_in(service: Server, key: str, client: httpx.Client | None = None, **headers: str) -> httpx.Response:
    return (client or service.client).post(LOGIN, json={"key": key}, headers={**OWN, **headers})


def read_cookie(answer: httpx.Response) -> Any:
    """The cookie that an answer sets, with its attributes."""
    header = answer.headers["set-cookie"]
    [cookie] = SimpleCookie(header).values()
    assert f"={cookie.value};" in header or not cookie.value, "without quotes, which browsers would send back"
    return cookie


@pytest.fixture
def anna(service: Server, keys: dict[str, str]) -> dict[str, str]:
    """The header of a browser that has logged in."""
    cookie = read_cookie(log_in(service, keys["anna"]))
    service.client.cookies.clear()
    return {"Cookie": f"theme={{dark; {cookie.key}={cookie.value}; x=1"}


# The login.


def test_a_key_becomes_a_cookie_that_no_script_reads(service: Server, keys: dict[str, str]) -> None:
    answer = log_in(service, keys["anna"])
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["tenant"], body["role"], body["name"]) == ("lab-a", "annotator", "anna")
    assert body["asks_for_keys"] is True
    assert time.time() + 11 * 3600 < body["expires_at"] < time.time() + 13 * 3600
    cookie = read_cookie(answer)
    assert cookie.key == "segserve-login"
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/")
    assert (cookie["secure"], cookie["domain"]) == ("", "")
    assert 11 * 3600 < int(cookie["max-age"]) <= 12 * 3600
    assert keys["anna"].rpartition("_")[2] not in cookie.value
    service.client.cookies.clear()


def test_over_tls_the_cookie_is_secure_and_of_this_host_only(service: Server, keys: dict[str, str]) -> None:
    with service.client_from("127.0.0.5") as proxy:  # which says that the browser speaks TLS
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
        cookie = read_cookie(log_in(service, keys["anna"], proxy, **headers))
        assert cookie.key == "__Host-segserve-login"
        assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
        own = {**headers, **OWN, "Cookie": f"{cookie.key}={cookie.value}"}
        assert proxy.get("/v1/models", headers=own).status_code == 200
    plain = {**OWN, "Cookie": f"{cookie.key}={cookie.value}"}
    assert service.client.get("/v1/models", headers=plain).status_code == 401


def test_the_cookie_is_the_key(service: Server, anna: dict[str, str], image_id: str) -> None:
    for headers in (anna, {**anna, **OWN}, {**anna, "Sec-Fetch-Site": "none"}):
        assert service.client.get(f"/v1/images/{image_id}", headers=headers).status_code == 200
    who = service.client.get(LOGIN, headers=anna).json()
    assert (who["tenant"], who["name"]) == ("lab-a", "anna")
    assert who["expires_at"] > time.time()
    body = {"image_id": image_id, "prompts": [{"points": [[413, 190]]}]}
    answer = service.client.post("/v1/segment", json=body, headers={**anna, **OWN})
    assert answer.status_code == 200, answer.text
    origin = {"Origin": service.url}  # of browsers that send no Sec-Fetch-Site
    assert service.client.post("/v1/segment", json=body, headers={**anna, **origin}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://labels.example.org"},
        {"Origin": "https://labels.example.org"},
        {"Origin": "null"},
        {"Origin": "https://evil.example.org"},
    ],
    ids=str,
)
def test_pages_of_other_origins_cannot_use_the_cookie(
    service: Server, anna: dict[str, str], image_id: str, headers: dict[str, str]
) -> None:
    read = service.client.get(f"/v1/images/{image_id}", headers={**anna, **headers})
    assert read.status_code == 401
    assert "access-control-allow-credentials" not in read.headers
    deleted = service.client.delete(f"/v1/images/{image_id}", headers={**anna, **headers})
    assert deleted.status_code in (401, 403)


def test_what_changes_something_needs_a_browser_that_says_where_it_comes_from(
    service: Server, anna: dict[str, str], image_id: str
) -> None:
    assert service.client.delete(f"/v1/images/{image_id}", headers=anna).status_code == 401
    assert service.client.get(f"/v1/images/{image_id}", headers=anna).status_code == 200


def test_other_pages_cannot_log_a_user_in(service: Server, keys: dict[str, str]) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example.org"}):
        answer = service.client.post(LOGIN, json={"key": keys["bert"]}, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    form = service.client.post(LOGIN, data={"key": keys["bert"]}, headers=OWN)
    assert form.status_code == 415


@pytest.mark.parametrize("key", ["nonsense", "segserve_a1b2c3_00", "a.b.c", "é"])
def test_a_wrong_key_is_no_login(service: Server, key: str) -> None:
    answer = log_in(service, key)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert key not in answer.text
    assert answer.json()["remedy"]


def test_logins_that_do_not_count_are_told_and_slow_nobody_down(
    service: Server, keys: dict[str, str], anna: dict[str, str]
) -> None:
    """A page whose login has ended sends it with dozens of requests: that is no guessing."""
    for _ in range(40):
        broken = service.client.get("/v1/models", headers={"Cookie": "segserve-login=abc.def"})
        assert broken.status_code == 401
        assert "Log in again" in broken.json()["remedy"]
    assert log_in(service, keys["bert"]).status_code == 200
    service.client.cookies.clear()
    # Whoever sends a key is not asked for a cookie.
    both = {"Authorization": f"Bearer {keys['bert']}", "Cookie": "segserve-login=abc.def"}
    assert service.client.get(LOGIN, headers=both).json()["name"] == "bert"


def test_logging_out_makes_the_browser_forget(service: Server, anna: dict[str, str]) -> None:
    for headers in ({**anna, **OWN}, OWN):
        answer = service.client.delete(LOGIN, headers=headers)
        assert answer.status_code == 204
        cookie = read_cookie(answer)
        assert (cookie.key, cookie.value, cookie["max-age"]) == ("segserve-login", "", "0")
    assert service.client.delete(LOGIN, headers={"Origin": "https://evil.example.org"}).status_code == 403


# Links.


def make_link(service: Server, key: str, path: str, **options: object) -> httpx.Response:
    return service.client.post(
        "/v1/links", json={"path": path, **options}, headers={"Authorization": f"Bearer {key}"}
    )


def test_a_link_reads_one_image_and_all_below_it(
    service: Server, keys: dict[str, str], image_id: str
) -> None:
    path = f"/v1/images/{image_id}"
    answer = make_link(service, keys["anna"], path, expires_s=60)
    assert answer.status_code == 200, answer.text
    link = {"link": answer.json()["link"]}
    assert time.time() < answer.json()["expires_at"] <= time.time() + 60
    assert service.client.get(path, params=link).status_code == 200
    picture = service.client.get(f"{path}/preview", params={"max": 64, **link})
    assert picture.headers["content-type"].startswith("image/")
    assert service.client.head(f"{path}/preview", params=link).status_code == 200
    assert service.client.get("/v1/models", params=link).status_code == 401
    assert service.client.get(f"{path}x", params=link).status_code == 401
    assert service.client.delete(path, params=link).status_code == 401
    body = {"prompts": [{"points": [[1, 1]]}]}
    assert service.client.post(f"{path}/segment", params=link, json=body).status_code == 401
    twice = f"{path}?link={link['link']}&link={link['link']}"
    assert service.client.get(twice).status_code == 401
    assert service.client.post("/v1/links", params=link, json={"path": path}).status_code == 401


def test_a_link_reaches_nothing_of_other_tenants(
    service: Server, keys: dict[str, str], image_id: str
) -> None:
    path = f"/v1/images/{image_id}"
    link = make_link(service, keys["bert"], path).json()["link"]
    answer = service.client.get(path, params={"link": link})
    assert answer.status_code == 404
    assert answer.json()["type"].endswith(":image_not_found")


@pytest.mark.parametrize(
    "path",
    ["", "/", "/v1", "/v1/images", "/v1/images/", "/v1/jobs", "/v1/models/starter", "/metrics", "/v1/login",
     "/v1/images/a?b=c", "/v1/images/a b", "v1/images/a", "//v1/images/a"],
)  # fmt: skip
def test_links_are_for_images_files_and_jobs(service: Server, keys: dict[str, str], path: str) -> None:
    answer = make_link(service, keys["anna"], path)
    assert (answer.status_code, answer.json()["field"]) == (422, "path")


def test_a_request_with_very_many_parameters_has_no_link(service: Server, image_id: str) -> None:
    query = "&".join(["link=x", *(f"p{number}=1" for number in range(100))])
    assert service.client.get(f"/v1/images/{image_id}?{query}").status_code == 401


def test_links_last_minutes(service: Server, keys: dict[str, str], image_id: str) -> None:
    assert make_link(service, keys["anna"], f"/v1/images/{image_id}", expires_s=3601).status_code == 422
    path = f"/v1/images/{image_id}"
    link = {"link": make_link(service, keys["anna"], path, expires_s=1).json()["link"]}
    deadline = time.monotonic() + CHANGE_TIMEOUT_S
    while (answer := service.client.get(path, params=link)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert answer.status_code == 401
    assert "has ended" in answer.json()["detail"]


# Tokens.


def test_a_token_of_the_issuer_is_as_good_as_a_key(
    service: Server, issuer: FakeIssuer, image_id: str
) -> None:
    bearer = {"Authorization": f"Bearer {issuer.token(sub='carla')}"}
    assert service.client.get(f"/v1/images/{image_id}", headers=bearer).status_code == 200
    who = service.client.get(LOGIN, headers=bearer).json()
    assert (who["tenant"], who["role"], who["name"]) == ("lab-a", "annotator", "carla")
    answer = log_in(service, issuer.token(sub="carla", exp=int(time.time()) + 300))
    cookie = read_cookie(answer)
    assert int(cookie["max-age"]) <= 300, "no longer than the token"
    own = {**OWN, "Cookie": f"{cookie.key}={cookie.value}"}
    service.client.cookies.clear()
    assert service.client.get(LOGIN, headers=own).json()["name"] == "carla"
    assert make_link(service, issuer.token(), f"/v1/images/{image_id}").status_code == 200
    forged = {"Authorization": f"Bearer {issuer.token(aud='another')}"}
    refused = service.client.get(f"/v1/images/{image_id}", headers=forged)
    assert refused.status_code == 401
    assert "another audience" in refused.json()["detail"]


# The end of a key, and a service without keys.


def test_a_revoked_key_ends_its_logins_and_links(
    service: Server, keys: dict[str, str], keys_file: Path, image_id: str
) -> None:
    path = f"/v1/images/{image_id}"
    cookie = read_cookie(log_in(service, keys["leaver"]))
    service.client.cookies.clear()
    own = {**OWN, "Cookie": f"{cookie.key}={cookie.value}"}
    link = {"link": make_link(service, keys["leaver"], path).json()["link"]}
    assert service.client.get(path, headers=own).status_code == 200
    assert service.client.get(path, params=link).status_code == 200
    with change_keys(keys_file) as known:
        known[:] = [key for key in known if key.identity.name != "leaver"]
    deadline = time.monotonic() + CHANGE_TIMEOUT_S
    while service.client.get(path, headers=own).status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    refused = service.client.get(path, params=link)
    assert refused.status_code == 401
    assert "revoked" in refused.json()["detail"]


def test_without_keys_everybody_is_an_operator_and_needs_no_login(server: Server) -> None:
    who = server.client.get(LOGIN).json()
    assert who == {
        "tenant": "default",
        "role": "operator",
        "name": "local",
        "asks_for_keys": False,
        "expires_at": None,
    }
    answer = server.client.post(LOGIN, json={"key": "any"})
    assert (answer.json(), "set-cookie" in answer.headers) == (who, False)
    assert server.client.post("/v1/links", json={"path": "/v1/images/a"}).json()["link"] is None
