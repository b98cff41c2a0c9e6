"""Calls of a server that may be busy, or started again, in the middle of an hour's work."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from segserve.errors import Unavailable

GIVE_UP_S = 300.0  # a server that is started again, with its models, is back long before
PAUSES_S = (0.5, 15.0)  # the first and the longest between two attempts
PART = 1 << 20  # bytes
PASSING = {502, 503, 504}


class Patient:
    """Repeats what a server could not answer just now. What is repeated must do no harm twice."""

    def __init__(self, client: httpx.Client) -> None:
        self._client, self._reached = client, False

    def send(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Raises Unavailable: at once where the server has never answered, else after some minutes without it."""
        return self._repeat(lambda: self._client.request(method, path, **content))

    def fetch(
        self, path: str, params: dict[str, str], received: Callable[[Iterator[bytes]], None]
    ) -> httpx.Response:
        """GET something large. received: called with its parts, from the first one again where they broke off. Raises
        as `send` does."""

        def attempt() -> httpx.Response:
            with self._client.stream("GET", path, params=params) as answer:
                if answer.is_success:
                    self._reached = True
                    received(answer.iter_bytes(PART))
                else:
                    answer.read()
                return answer

        return self._repeat(attempt)

    def _repeat(self, attempt: Callable[[], httpx.Response]) -> httpx.Response:
        failing_since, pause = None, PAUSES_S[0]
        while True:
            try:
                answer = attempt()
                self._reached = True
                if answer.status_code not in PASSING:
                    return answer
                reason, wait = f"it answers with status {answer.status_code}", retry_after(answer)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason, wait = str(error) or type(error).__name__, 0.0
                if not self._reached:
                    raise unavailable(self._client, reason) from None
            failing_since = failing_since or time.monotonic()  # what broke off may have lasted for long
            if time.monotonic() - failing_since > GIVE_UP_S:
                raise unavailable(self._client, reason)
            time.sleep(min(max(wait, pause), PAUSES_S[1]))
            pause = min(2 * pause, PAUSES_S[1])


def unavailable(client: httpx.Client, reason: str) -> Unavailable:
    return Unavailable(
        f"{client.base_url} cannot be reached: {reason}.",
        remedy="Is that the address of a running segserve?",
    )


def retry_after(answer: httpx.Response) -> float:
    stated = answer.headers.get("retry-after", "")
    return float(stated) if stated.isdecimal() else 0.0
