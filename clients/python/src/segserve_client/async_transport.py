"""Sending requests by httpx's AsyncClient, with the retries of `retry`. See `transport`, which blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import TypeVar

import httpx

from segserve_client.errors import ClientError
from segserve_client.job_calls import Stream
from segserve_client.requests import Answer, Call, Request
from segserve_client.retry import Failure, RetryPolicy, RetryState, read_failure
from segserve_client.transport import (
    HTTP_ERRORS,
    connection_failure,
    parse_answer,
    replace_read_timeout,
    request_options,
    to_answer,
)

T = TypeVar("T")


class AsyncTransport:
    """`AsyncTransport` sends requests and awaits their answers. Methods and errors are those of `Transport`."""

    def __init__(self, http: httpx.AsyncClient, policy: RetryPolicy) -> None:
        self._http, self._policy = http, policy
        self.address = str(http.base_url).rstrip("/")
        self._has_answered = False

    async def close(self) -> None:
        await self._http.aclose()

    async def call(self, call: Call[T]) -> T:
        """Send a request until it is answered, and return the value of its answer."""
        answer = await self._send(call.request)
        return parse_answer(call, answer, self.address)

    async def _send(self, request: Request) -> Answer:
        retry = RetryState(self._policy)
        while True:
            try:
                content = None if request.upload is None else _read_in_thread(request.upload.read_parts())
                response = await self._http.request(
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
            await _sleep(retry, request, failure, cause)

    async def stream(
        self, stream: Stream[T], *, read_timeout_s: float | None = None
    ) -> AsyncGenerator[T, None]:
        """Yield what a stream makes of its answer, until that has come whole; where it breaks off, go on."""
        retry = RetryState(self._policy)
        timeout = replace_read_timeout(self._http.timeout, read_timeout_s)
        while True:
            request = stream.begin()
            try:
                async with self._http.stream(
                    request.method, request.path, timeout=timeout, **request_options(request)
                ) as response:
                    self._has_answered, cause = True, None
                    if response.is_success:
                        async for part in response.aiter_bytes():
                            retry.reset()
                            for value in stream.feed(part):
                                yield value
                        return
                    refusal = read_failure(self.address, request, to_answer(response, await response.aread()))
                    assert refusal is not None
                    failure = refusal
            except HTTP_ERRORS as error:
                failure = connection_failure(self.address, request, error, self._has_answered)
                cause = error
            await _sleep(retry, request, failure, cause)


async def _read_in_thread(parts: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    while part := await asyncio.to_thread(next, parts, b""):
        yield part


async def _sleep(retry: RetryState, request: Request, failure: Failure, cause: Exception | None) -> None:
    try:
        pause = retry.next_pause(request, failure)
    except ClientError as error:
        raise error from cause
    await asyncio.sleep(pause)
