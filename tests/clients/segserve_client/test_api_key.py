"""Keys: how the clients and the commands send them, and what they say where the service asks for one."""

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from segserve.commands.server_client import connect_to_server
from segserve.errors import BadInput
from segserve_client import NO_RETRIES, AsyncClient, Client, Unauthenticated
from tests.http_listener import listening

KEY = "segserve_a1b2c3_0123456789abcdef"
REFUSAL = {
    "type": "urn:segserve:problem:unauthenticated",
    "detail": "This needs a key.",
    "remedy": "Send one.",
}


class Locked(BaseHTTPRequestHandler):
    """Lists no models to whoever has the key."""

    def do_GET(self) -> None:
        is_known = self.headers["Authorization"] == f"Bearer {KEY}"
        body = json.dumps({"models": []} if is_known else REFUSAL).encode()
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Locked)
    with listening(server):
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGSERVE_API_KEY", raising=False)


def test_a_key_is_sent_with_every_request(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def list_awaited() -> object:
        async with AsyncClient(address, api_key=KEY) as client:
            return await client.models()

    with Client(address, api_key=KEY) as client:
        assert client.models() == ()
        with client.with_limits(read_timeout_s=5, retry=NO_RETRIES) as again:
            assert again.models() == ()
    assert asyncio.run(list_awaited()) == ()
    monkeypatch.setenv("SEGSERVE_API_KEY", KEY)
    with Client(address) as client:
        assert client.models() == ()
    with Client(address, api_key="") as client, pytest.raises(Unauthenticated):
        client.models()


def test_headers_of_ones_own_win_over_the_environment(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSERVE_API_KEY", "another")
    with Client(address, headers={"authorization": f"Bearer {KEY}"}) as client:
        assert client.models() == ()


def test_a_refusal_says_how_to_get_a_key(address: str) -> None:
    with Client(address) as client, pytest.raises(Unauthenticated) as caught:
        client.models()
    assert caught.value.status == 401
    assert str(caught.value).count("segserve keys add") == 1
    for part in ("This needs a key.", "segserve keys add", "api_key=", "SEGSERVE_API_KEY"):
        assert part in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "a\nb", "schlüssel"])
def test_what_cannot_be_a_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="characters that no key has") as caught:
        Client(api_key=key)
    assert key not in str(caught.value)


def test_an_httpx_client_of_ones_own_has_its_own_headers(address: str) -> None:
    own = httpx.Client(base_url=address, headers={"Authorization": f"Bearer {KEY}"})
    with Client(http=own) as client:
        assert client.models() == ()


def test_commands_read_the_key_from_a_file_or_the_environment(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    with connect_to_server(address, None, file) as client:
        assert client.models() == ()
    monkeypatch.setenv("SEGSERVE_API_KEY", KEY)
    with connect_to_server(address, None) as client:
        assert client.models() == ()
    monkeypatch.delenv("SEGSERVE_API_KEY")
    with pytest.raises(BadInput, match="--api-key-file"), connect_to_server(address, None) as client:
        client.models()
    for content in (b"", b"\xff\xfe", b"two words"):
        file.write_bytes(content)
        with pytest.raises(BadInput), connect_to_server(address, None, file):
            pass
    with pytest.raises(BadInput), connect_to_server(address, None, tmp_path / "none"):
        pass
