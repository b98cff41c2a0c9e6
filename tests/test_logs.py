"""What clients send cannot forge lines of the log, nor control the terminal that shows it."""

import json
import logging
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisGone

from segserve.logs import configure_logging, escape_control_characters, escape_text
from tests.serving import Server
from tests.wire.raw_http import connect, read_until_closed, wait_for

PATHS = [
    b"/x%0A2026-11-27T00:00:00Z%20[info%20%20]%20request%20path=/v1/FORGED%0A%1b%5b31mRED",
    b"/a%0dCR",
    b"/a%c2%85NEL",
    b"/a%e2%80%a8LS",
    b"/a%e2%80%aeRTL",
    b"/a%c2%9b31mC1",
    b"/a%08%08%7fBS",
    b"/a%00NUL",
    b"/v1/models/a%0AFORGED",
]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_requests_cannot_forge_lines(tmp_path: Path, log_format: str) -> None:
    server = Server(tmp_path, log_format=log_format)
    server.wait_ready()
    for path in PATHS:
        with closing(connect(server)) as link:
            link.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert read_until_closed(link).startswith(b"HTTP/1.1 404 ")
    body = {"image_id": "a\nFORGED\x1b]0;title\x07", "prompts": [{"points": [[1, 1]]}]}
    assert server.client.post("/v1/segment", json=body).status_code == 404
    wait_for(lambda: server.log.read_text().count("404") >= len(PATHS) + 1)
    assert server.stop() == 0
    lines = server.log.read_text().split("\n")
    for line in lines:
        assert not line.startswith(("2026-11-27T00:00:00Z", "FORGED")), line
        assert not [c for c in line if unicodedata.category(c) in ("Cc", "Zl", "Zp") or c == "\u202e"], line
    if log_format == "json":
        requests = [json.loads(line) for line in lines if line.startswith("{")]
        assert (
            sum(line.get("event") == "request" and line["status"] == 404 for line in requests)
            == len(PATHS) + 1
        )


def test_keys_values_and_tracebacks_are_escaped() -> None:
    event = {"a\nb": "c\rd", "count": 3, "exception": "Traceback\nValueError: x\x1b[31m\nFORGED"}
    assert escape_control_characters(None, "info", event) == {
        r"a\x0ab": r"c\x0dd",
        "count": 3,
        "exception": "Traceback\n    ValueError: x\\x1b[31m\n    FORGED",
    }
    assert escape_text("äöü 漢字 🙂") == "äöü 漢字 🙂"
    assert escape_text("\u2028\ud800") == r"\u2028\ud800"


def test_a_redis_that_is_away_is_one_line_of_the_queue(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "info")
    queue = logging.getLogger("docket.worker")
    for _ in range(6):
        try:
            raise RedisGone("Error 111 connecting")
        except RedisGone:
            queue.warning("Redis is unavailable, retrying in %s...", 1, exc_info=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        json.loads(line).items()
        >= {
            "event": "Redis is unavailable, retrying in 1...",
            "level": "warning",
            "reason": "ConnectionError",
        }.items()
    )


def test_other_errors_of_the_queue_keep_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "info")
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("docket.worker").exception("Error in scheduler loop")
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told["level"] == "error"
    assert "KeyError: 'x'" in told["exception"]
