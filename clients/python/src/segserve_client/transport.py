"""Sending requests by httpx, with retries. The asynchronous one is `async_transport`; both follow `retry`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import httpx

from segserve_client.errors import ClientError, Unreachable
from segserve_client.job_calls import Stream
from segserve_client.requests import Answer, Call, Request
from segserve_client.retry import Failure, RetryPolicy, RetryState, read_failure

T = TypeVar("T")

API_KEY_VARIABLE = "SEGSERVE_API_KEY"
# Errors before the request was sent.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
HTTP_ERRORS = (httpx.HTTPError, httpx.InvalidURL)


def build_timeout(connect_s: float, read_s: float | None) -> httpx.Timeout:
    return httpx.Timeout(read_s, connect=connect_s, write=read_s, pool=None)


def build_headers(headers: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    """Return the headers of every request. api_key: if left out, that of SEGSERVE_API_KEY; empty: none.

    Raises ValueError for a key that no header can hold.
    """
    all_headers = dict(headers or {})
    key = os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key
    if key and not any(name.lower() == "authorization" for name in all_headers):
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError(
                "The key has characters that no key has. Copy it again, without spaces and line breaks."
            )
        all_headers["Authorization"] = f"Bearer {key}"
    return all_headers


def replace_read_timeout(timeout: httpx.Timeout, read_s: float | None) -> httpx.Timeout:
    """Return the timeout with another limit for silence; None keeps it."""
    if read_s is None:
        return timeout
    return httpx.Timeout(connect=timeout.connect, read=read_s, write=timeout.write, pool=timeout.pool)


def request_options(request: Request) -> dict[str, Any]:
    """Return the arguments of httpx for a request without its upload."""
    # None keeps the query that a signed URL has.
    options: dict[str, Any] = {"params": dict(request.query) or None, "headers": dict(request.headers)}
    if request.upload is not None:
        options["headers"]["content-length"] = str(request.upload.size)
    if request.body is not None:
        options["json"] = request.body
    return options


def to_answer(response: httpx.Response, content: bytes) -> Answer:
    return Answer(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, content
    )


def connection_failure(address: str, request: Request, error: Exception, has_answered: bool) -> Failure:
    """Return the failure of a connection. A service that has never answered is not asked again."""
    may_repeat = has_answered and (request.is_repeatable or isinstance(error, _NOT_SENT))
    return Failure(Unreachable(address, str(error) or type(error).__name__), may_repeat)


def parse_answer(call: Call[T], answer: Answer, address: str) -> T:
    """Return the value of an answer. Raises Unreachable where it is not that of a segserve."""
    try:
        return call.parse(answer)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = "what answers there does not speak as segserve does"
        raise Unreachable(address, reason) from error


class Transport:
    """`Transport` sends requests and blocks until they are answered.

    Every method raises Problem where the service refuses, and Unreachable where it does not answer.
    """

    def __init__(self, http: httpx.Client, policy: RetryPolicy) -> None:
        self._http, self._policy = http, policy
        self.address = str(http.base_url).rstrip("/")
        self._has_answered = False

    @property
    def headers(self) -> httpx.Headers:
        """Return the headers of every request."""
        return self._http.headers

    def close(self) -> None:
        self._http.close()

    def call(self, call: Call[T]) -> T:
        """Send a request until it is answered, and return the value of its answer."""
        return parse_answer(call, self._send(call.request), self.address)

    def _send(self, request: Request) -> Answer:
        retry = RetryState(self._policy)
        while True:
            try:
                content = None if request.upload is None else request.upload.read_parts()
                response = self._http.request(
                    request.method, request.path, content=content, **request_options(request)
                )
            except HTTP_ERRORS as error:
                failure = connection_failure(self.address, request, error, self._has_answered)
                cause: Exception | None = error
            else:
                self._has_answered, cause = True, None
                answer = to_answer(response, response.content)
                refusal = read_failure(self.address, request, answer)
                if refusal is None:
                    return answer
                failure = refusal
            _sleep(retry, request, failure, cause)

    def stream(self, stream: Stream[T], *, read_timeout_s: float | None = None) -> Iterator[T]:
        """Yield what a stream makes of its answer, until that has come whole; where it breaks off, go on.

        read_timeout_s: a connection that is silent for longer is broken; as for other requests if left out.
        """
        retry = RetryState(self._policy)
        timeout = replace_read_timeout(self._http.timeout, read_timeout_s)
        while True:
            request = stream.begin()
            try:
                with self._http.stream(
                    request.method, request.path, timeout=timeout, **request_options(request)
                ) as response:
                    self._has_answered, cause = True, None
                    if response.is_success:
                        for part in response.iter_bytes():
                            retry.reset()
                            yield from stream.feed(part)
                        return
                    refusal = read_failure(self.address, request, to_answer(response, response.read()))
                    assert refusal is not None
                    failure = refusal
            except HTTP_ERRORS as error:
                failure = connection_failure(self.address, request, error, self._has_answered)
                cause = error
            _sleep(retry, request, failure, cause)


def _sleep(retry: RetryState, request: Request, failure: Failure, cause: Exception | None) -> None:
    try:
        pause = retry.next_pause(request, failure)
    except ClientError as error:
        raise error from cause
    time.sleep(pause)
