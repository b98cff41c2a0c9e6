"""What tests expect of answers: problem documents, accepted jobs, and the results of jobs that have ended."""

import json
import time
from typing import Any

import httpx

from tests.serving import Server

JOB_TIMEOUT_S = 90.0
HANG_S = 5.0  # a request that takes this long hangs; it is not slowness, though the machines are noisy


def assert_refused(
    answer: httpx.Response, status: int, code: str, field: str | None = None
) -> dict[str, Any]:
    """Check that the answer is a problem document with a remedy, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"urn:segserve:problem:{code}"
    assert problem["status"] == status
    assert problem["detail"]
    assert problem.get("remedy"), "says what to do"
    if field is not None:
        assert problem["field"] == field
    assert answer.elapsed.total_seconds() < HANG_S
    return problem


def accepted_job_id(answer: httpx.Response) -> str:
    """Check that a job was accepted, and return its id."""
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["job_id"]
    assert answer.headers["location"] == f"/v1/jobs/{job_id}"
    return job_id


def wait_until_ended(server: Server, job_id: str) -> dict[str, Any]:
    """The job, once it has succeeded, failed or been cancelled."""
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while (job := server.client.get(f"/v1/jobs/{job_id}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    ended: dict[str, Any] = job
    return ended


def read_results(server: Server, job_id: str, **query: int) -> list[dict[str, Any]]:
    """The result lines of a job that are published by now."""
    answer = server.client.get(f"/v1/jobs/{job_id}/results", params=query)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]
