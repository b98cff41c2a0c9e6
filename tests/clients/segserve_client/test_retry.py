"""How long the client keeps on asking, which requests it sends twice, and what it says when it gives up."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from segserve_client import (
    AsyncClient,
    Client,
    FramePrompt,
    MaskNotFound,
    ModelNotFound,
    Problem,
    RetryPolicy,
    Unavailable,
    Unreachable,
)
from segserve_client.requests import Request
from segserve_client.retry import Failure, RetryState, read_retry_after

JOBS_AWAY = {
    "type": "urn:segserve:problem:jobs_unavailable",
    "detail": "The jobs' Redis cannot be reached.",
    "remedy": "Try again in a moment.",
}
BUSY = {"type": "urn:segserve:problem:too_busy", "detail": "1000 jobs wait already."}
JOB = {
    "job_id": "J",
    "kind": "video",
    "model": "starter",
    "priority": "batch",
    "state": "running",
    "progress": {"done": 0, "total": None, "failed": 0, "rate_per_s": None, "eta_s": None},
    "object_ends": {"count": 0, "latest": []},
    "error": None,
}
VERSION = httpx.Response(200, json={"version": "1"})
AT_ONCE = RetryPolicy(give_up_s=60, give_up_beginning_s=-1, min_pause_s=0, max_pause_s=0)
GIVE_UP = RetryPolicy(give_up_s=-1, give_up_beginning_s=-1, min_pause_s=0, max_pause_s=0)

Step = httpx.Response | Exception


class Script:
    """Answers requests by these steps, the last one again and again. requests: what came."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.requests: list[httpx.Request] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, Exception):
            raise step
        return httpx.Response(step.status_code, headers=step.headers, content=step.content)

    def client(self, policy: RetryPolicy = AT_ONCE) -> Client:
        http = httpx.Client(transport=httpx.MockTransport(self.answer), base_url="http://server")
        return Client(http=http, retry=policy)

    def async_client(self, policy: RetryPolicy = AT_ONCE) -> AsyncClient:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer), base_url="http://server")
        return AsyncClient(http=http, retry=policy)


def test_a_busy_service_is_asked_again() -> None:
    script = Script(httpx.Response(503, json=BUSY), httpx.Response(429, json=BUSY), VERSION)
    assert script.client().version() == "1"
    assert len(script.requests) == 3


def test_the_last_reason_is_told() -> None:
    with pytest.raises(Unavailable, match="1000 jobs wait already") as error:
        Script(httpx.Response(503, json=BUSY)).client(GIVE_UP).version()
    assert (error.value.status, error.value.code) == (503, "too_busy")
    with pytest.raises(Unreachable, match="status 502"):
        Script(httpx.Response(502, text="<html>")).client(GIVE_UP).version()


def test_a_part_that_is_away_is_not_waited_for_at_the_beginning() -> None:
    script = Script(httpx.Response(503, json=JOBS_AWAY))
    with pytest.raises(Unavailable, match="The jobs' Redis cannot be reached"):
        script.client().submit({"kind": "video"})
    assert len(script.requests) == 1


def test_in_the_middle_of_work_it_is_waited_for() -> None:
    script = Script(*[httpx.Response(503, json=JOBS_AWAY)] * 5, httpx.Response(200, json=JOB))
    assert script.client().job("J").state == "running"


def test_a_service_that_never_answered_is_not_asked_again() -> None:
    script = Script(httpx.ConnectError("refused"))
    with pytest.raises(Unreachable, match="http://server cannot be reached: refused"):
        script.client().version()
    assert len(script.requests) == 1


def test_a_lost_answer_is_asked_for_again_with_the_same_key() -> None:
    script = Script(VERSION, httpx.ReadError("reset"), httpx.Response(202, json=JOB))
    client = script.client()
    client.version()
    client.submit({"kind": "video"})
    keys = {request.headers["idempotency-key"] for request in script.requests[1:]}
    assert len(script.requests) == 3
    assert len(keys) == 1, "so that it is one job"


def correct(client: Client) -> object:
    return client.job("J").add_prompts({1: FramePrompt(3, points=(1, 2))})


def retry_job(client: Client) -> object:
    return client.job("J").retry()


@pytest.mark.parametrize("act", [correct, retry_job])
def test_what_must_not_happen_twice_is_sent_once(act: Callable[[Client], object]) -> None:
    lost = Script(httpx.Response(200, json=JOB), httpx.ReadError("reset"), httpx.Response(202, json=JOB))
    with pytest.raises(Unreachable, match="reset"):
        act(lost.client())
    assert len(lost.requests) == 2
    for step in (httpx.ConnectError("refused"), httpx.Response(503, json=BUSY)):
        refused = Script(httpx.Response(200, json=JOB), step, httpx.Response(202, json=JOB))
        act(refused.client())
        assert len(refused.requests) == 3, "it was not done: it may be sent again"


def test_retry_after_is_waited_for() -> None:
    error = Unavailable(503, "urn:segserve:problem:too_busy", "busy", retry_after_s=7)
    state, request = RetryState(RetryPolicy()), Request("GET", "/")
    assert 7 <= state.next_pause(request, Failure(error, True)) <= 7.5
    pauses = [
        RetryState(RetryPolicy()).next_pause(request, Failure(Problem(503, "", ""), True)) for _ in range(20)
    ]
    assert all(0.25 <= pause <= 1 for pause in pauses)
    assert len(set(pauses)) > 10, "clients do not come back together"
    with pytest.raises(Unavailable):
        RetryState(RetryPolicy(give_up_s=5)).next_pause(request, Failure(error, True))


def test_retry_after_may_be_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 95 < read_retry_after({"retry-after": soon}) <= 100
    assert read_retry_after({"retry-after": "12"}) == 12
    assert read_retry_after({"retry-after": "soon"}) == read_retry_after({}) == 0


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>a router</html>"),
        httpx.Response(200, json=["something", "else"]),
        httpx.Response(404, text="nothing here"),
    ],
)
def test_another_service_at_the_address(response: httpx.Response) -> None:
    with pytest.raises(Unreachable, match="Is that the address of a running segserve"):
        Script(response).client().version()


@pytest.mark.parametrize(
    ("code", "kind"), [("model_not_found", ModelNotFound), ("mask_not_found", MaskNotFound)]
)
def test_a_problem_says_all_that_the_service_says(code: str, kind: type[Problem]) -> None:
    document = {
        "type": f"urn:segserve:problem:{code}",
        "detail": "There is none.",
        "field": "here",
        "remedy": "Take another.",
    }
    with pytest.raises(kind) as error:
        Script(httpx.Response(404, json=document)).client().version()
    problem = error.value
    assert (problem.status, problem.code, problem.field, problem.remedy) == (
        404,
        code,
        "here",
        "Take another.",
    )
    assert str(problem) == "There is none. Take another."
    assert problem.to_json() == document


def test_awaited_requests_are_retried_alike() -> None:
    script = Script(VERSION, httpx.ReadError("reset"), httpx.Response(503, json=BUSY), VERSION)

    async def run() -> str:
        async with script.async_client() as client:
            await client.version()
            return await client.version()

    assert asyncio.run(run()) == "1"
    assert len(script.requests) == 4
    with pytest.raises(Unreachable):
        asyncio.run(Script(httpx.ConnectError("refused")).async_client().version())
