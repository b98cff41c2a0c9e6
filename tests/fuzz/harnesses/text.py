"""Text that clients choose: hosts, origins, media types, URLs, and what of them comes into the log."""

import json
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

import structlog

from segserve.errors import SegserveError
from segserve.images.fetch_url import IMAGE_FETCH
from segserve.logs import CONTROL_CHARACTERS, escape_control_characters
from segserve.outbound_http import HostAllowlist, is_public, parse_url
from segserve.settings import Settings
from segserve.wire.http.host_and_origin import HostNames, origin_host, parse_host
from segserve.wire.http.media_type import ConflictingTypes, read_media_type
from tests.fuzz.harnesses.harness import Harness, check_refusal, expect_refusals

HOSTS = HostNames(Settings(allowed_hosts=("*.example.org",)))
FETCH_HOSTS = HostAllowlist(["*.example.org", "example.com"], private=False, purpose=IMAGE_FETCH)
TO_JSON, TO_TEXT = structlog.processors.JSONRenderer(), structlog.dev.ConsoleRenderer(colors=False)


def read_host(data: bytes) -> None:
    """A Host header, by which only our own names may be called; and the same as an Origin."""
    text = data.decode("latin-1")
    host = parse_host(text)
    if host is not None:
        assert host == host.lower()
        assert not set(host) & set("/@\\ \t\r\n")
        if HOSTS.allow(host, "127.0.0.1"):
            assert is_own(host), host
    origin_host(text)


def is_own(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".example.org")):
        return True
    return ip_address(host).is_loopback


def read_type(data: bytes) -> None:
    """Headers, a line each."""
    try:
        media_type = read_media_type((b"Content-Type", line) for line in data.split(b"\n"))
    except ConflictingTypes:
        return
    assert ";" not in media_type
    assert media_type == media_type.strip(" \t")


def read_url(data: bytes) -> None:
    """A URL to fetch, and a redirect to it. Only allowed hosts may be called."""
    text = data.decode("utf-8", "replace")
    for base in (None, parse_url("http://a.example.org/b/c", IMAGE_FETCH)):
        with expect_refusals():
            url = parse_url(text, IMAGE_FETCH, base)
            host = FETCH_HOSTS.check_url(url)
            assert (
                host == "example.com" or host.rstrip(".").endswith(".example.org") or host == "example.com."
            )
            assert url.scheme in ("http", "https")
            assert not url.userinfo
    with suppress(ValueError):
        is_public(ip_address(text))


def write_log(data: bytes) -> None:
    """Write text as a key and as a value: one line, without anything that a terminal obeys."""
    text = data.decode("utf-8", "surrogateescape")
    event = {"event": text, "level": "info", text or "empty": text, "number": len(text)}
    escaped = escape_control_characters(None, "info", event)
    for line in (TO_JSON(None, "info", dict(escaped)), TO_TEXT(None, "info", dict(escaped))):
        assert not CONTROL_CHARACTERS.search(str(line)), line
    assert json.loads(TO_JSON(None, "info", dict(escaped)))["number"] == len(text)
    error = SegserveError(text or "x", remedy=text or "x")
    check_refusal(error)


def host_seeds() -> Iterable[bytes]:
    yield from (b"localhost:8000", b"127.0.0.1", b"[::1]:80", b"a.example.org.", b"https://a.example.org:1/x")
    yield from (b"2130706433", b"127.1", b"[::ffff:127.0.0.1]", b"localhost.", b"evil.test", b"null")


def type_seeds() -> Iterable[bytes]:
    yield from (b"application/json", b"\xa0application/json", b" text/plain ; charset=utf-8\t", b"a/b\nc/d")


def url_seeds() -> Iterable[bytes]:
    yield from (b"https://a.example.org/x?y#z", b"http://user@example.com:80/", b"//a.example.org/x", b"../x")
    yield from (
        b"http://[::1]/",
        b"http://127.0.0.1/",
        "http://\u00e9.example.org/".encode(),
        b"file:///etc/passwd",
    )
    yield from (
        b"64:ff9b::7f00:1",
        b"::ffff:10.0.0.1",
        b"http://a.example.org\\@b/",
        b"http:///x",
        b"http://a:99999/",
    )


def log_seeds() -> Iterable[bytes]:
    yield from (
        b"a request\n2026-11-27T00:00:00Z [info] forged",
        b"\x1b[31mred",
        "\u2028\u202e\u0085".encode(),
    )
    yield from (b"\xff\xfe", b"event", b"level", b"\r\x08\x7f")


HARNESSES = (
    Harness("host", read_host, host_seeds, (b"localhost", b".example.org", b"127.", b"::"), 256),
    Harness("media_type", read_type, type_seeds, (b"application/json", b"\n", b";"), 256),
    Harness(
        "url", read_url, url_seeds, (b"example.com", b".example.org", b"http://", b"%", b"@", b"xn--"), 512
    ),
    Harness("log", write_log, log_seeds, max_bytes=512),
)
