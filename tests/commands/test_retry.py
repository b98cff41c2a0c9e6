"""How long the client of a server keeps on asking, and what it says when it gives up."""

import httpx
import pytest

from segserve.commands import retry
from segserve.commands.retry import RetryingClient
from segserve.errors import Unavailable

JOBS_AWAY = {
    "type": "urn:segserve:problem:jobs_unavailable",
    "detail": "The jobs' Redis cannot be reached.",
    "remedy": "Try again in a moment.",
}
BUSY = {"type": "urn:segserve:problem:too_busy", "detail": "1000 jobs wait already."}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "MIN_PAUSE_S", 0.0)
    monkeypatch.setattr(retry, "GIVE_UP_BEGINNING_S", 0.0)


def answer(*responses: httpx.Response) -> RetryingClient:
    """A client of a server that gives these answers, the last one again and again."""
    left = list(responses)
    transport = httpx.MockTransport(lambda request: left.pop(0) if len(left) > 1 else left[0])
    return RetryingClient(httpx.Client(transport=transport, base_url="http://server"))


def test_a_part_that_is_away_is_not_waited_for_at_the_beginning() -> None:
    with pytest.raises(Unavailable, match="The jobs' Redis cannot be reached") as error:
        answer(httpx.Response(503, json=JOBS_AWAY)).send("POST", "/v1/jobs", begins=True)
    assert "running segserve" not in str(error.value), "the address is right"


def test_in_the_middle_of_work_it_is_waited_for() -> None:
    client = answer(*[httpx.Response(503, json=JOBS_AWAY)] * 5, httpx.Response(200))
    assert client.send("GET", "/v1/jobs/1").status_code == 200


def test_a_busy_server_is_waited_for() -> None:
    client = answer(*[httpx.Response(503, json=BUSY)] * 5, httpx.Response(202))
    assert client.send("POST", "/v1/jobs", begins=True).status_code == 202


def test_the_last_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "GIVE_UP_S", 0.0)
    with pytest.raises(Unavailable, match="1000 jobs wait already"):
        answer(httpx.Response(503, json=BUSY)).send("POST", "/v1/jobs", begins=True)
    with pytest.raises(Unavailable, match="status 502"):
        answer(httpx.Response(502, text="<html>")).send("GET", "/v1/jobs/1")
