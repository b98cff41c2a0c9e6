"""The requests of jobs, and the streams of their results and events. Nothing here sends anything."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Generic, TypeVar

from segserve_client.job_answers import JobInfo, parse_job
from segserve_client.prompts import Json
from segserve_client.requests import Answer, Call, Request

L = TypeVar("L")
T = TypeVar("T")


def submit(body: Mapping[str, Any], idempotency_key: str | None) -> Call[JobInfo]:
    """body: of POST /v1/jobs. idempotency_key: the same key and body is the same job; a new key if left out."""
    headers = {"idempotency-key": idempotency_key or secrets.token_urlsafe()}
    return Call(Request("POST", "/v1/jobs", body=body, headers=headers, begins=True), _parse)


def get_job(job_id: str) -> Call[JobInfo]:
    return Call(Request("GET", f"/v1/jobs/{job_id}"), _parse)


def list_jobs() -> Call[tuple[JobInfo, ...]]:
    def parse(answer: Answer) -> tuple[JobInfo, ...]:
        return tuple(parse_job(job) for job in answer.json()["jobs"])

    return Call(Request("GET", "/v1/jobs"), parse)


def cancel(job_id: str) -> Call[JobInfo]:
    """Sent twice it deletes nothing: a job that has ended stays."""
    return Call(Request("DELETE", f"/v1/jobs/{job_id}"), _parse)


def delete(job_id: str) -> Call[JobInfo | None]:
    """Answers the job where it had not ended, and was stopped; None where it is deleted."""
    return Call(
        Request("DELETE", f"/v1/jobs/{job_id}", {"delete_ended": "true"}),
        lambda answer: _parse(answer) if answer.content else None,
    )


def retry(job_id: str) -> Call[JobInfo]:
    return Call(Request("POST", f"/v1/jobs/{job_id}/retry", is_repeatable=False), _parse)


def add_prompts(job_id: str, objects: Sequence[Json]) -> Call[JobInfo]:
    """Sent twice it would add the prompts twice, so it is not repeated when its answer is lost."""
    request = Request(
        "POST", f"/v1/jobs/{job_id}/prompts", body={"objects": list(objects)}, is_repeatable=False
    )
    return Call(request, _parse)


def _parse(answer: Answer) -> JobInfo:
    return parse_job(answer.json())


def job_body(
    kind: str, input: Json, params: Mapping[str, Any], model: str | None, priority: str, webhook: str | None
) -> Json:
    """Return the body of POST /v1/jobs. Params that are None are left out."""
    optional = {"model": model, "webhook": webhook}
    return {
        "kind": kind,
        "priority": priority,
        "input": input,
        "params": {name: value for name, value in params.items() if value is not None},
        **{name: value for name, value in optional.items() if value is not None},
    }


class Stream(Generic[T]):
    """A body that is read while it comes, and asked for again where the connection broke.

    `begin` returns the request for what has not been read yet. `feed` takes the next bytes of its answer.
    """

    def begin(self) -> Request:
        raise NotImplementedError

    def feed(self, part: bytes) -> Iterator[T]:
        raise NotImplementedError


class LineStream(Stream[L]):
    """The result lines of a job from `position` on: each of them once.

    parse: makes a value of a line. position: how many lines are read.
    """

    def __init__(self, job_id: str, position: int, parse: Callable[[Any], L]) -> None:
        self._path, self.position, self._parse = f"/v1/jobs/{job_id}/results", position, parse
        self._rest = b""

    def begin(self) -> Request:
        self._rest = b""  # half a line of a connection that broke comes again
        return Request("GET", self._path, {"from": str(self.position), "format": "ndjson"})

    def feed(self, part: bytes) -> Iterator[L]:
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            value = self._parse(json.loads(line))
            self.position += 1  # before the yield: whoever takes the line has it
            yield value


class EventStream(Stream[JobInfo]):
    """The events of a job (server-sent events, WHATWG HTML 9.2), each of them once. last_event_id: of the last one."""

    def __init__(self, job_id: str, last_event_id: str | None = None) -> None:
        self._path, self.last_event_id = f"/v1/jobs/{job_id}/events", last_event_id
        self._rest = b""

    def begin(self) -> Request:
        self._rest = b""
        headers = {"accept": "text/event-stream"}
        if self.last_event_id is not None:
            headers["last-event-id"] = self.last_event_id
        return Request("GET", self._path, headers=headers)

    def feed(self, part: bytes) -> Iterator[JobInfo]:
        *blocks, self._rest = (self._rest + part).split(b"\n\n")
        for block in blocks:
            fields = dict(_parse_fields(block.decode().splitlines()))
            if "data" in fields:
                job = parse_job(json.loads(fields["data"]))
                self.last_event_id = fields.get("id", self.last_event_id)
                yield job


def _parse_fields(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition(":")
        if name:  # a line that begins with a colon is a comment
            yield name, value.removeprefix(" ")


class Download(Stream[int]):
    """The results of a job as a file. Written from its beginning again where the connection broke.

    out: seekable. Yields how many bytes are written.
    """

    def __init__(self, job_id: str, format: str, out: BinaryIO) -> None:
        self._request = Request("GET", f"/v1/jobs/{job_id}/results", {"format": format})
        self._out = out

    def begin(self) -> Request:
        self._out.seek(0)
        self._out.truncate()
        return self._request

    def feed(self, part: bytes) -> Iterator[int]:
        self._out.write(part)
        yield self._out.tell()
