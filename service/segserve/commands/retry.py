"""HTTP calls with retry: a server may be busy or restarted in the middle of an hour's work."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from segserve.errors import CacheUnavailable, JobsUnavailable, Unavailable

# Give up after this long without an answer. A restarted server has loaded its models long before.
GIVE_UP_S = 300.0
# The same for what has not begun, where nothing is lost if it fails.
GIVE_UP_BEGINNING_S = 10.0
# The pause between two attempts doubles from the first to the last of these.
MIN_PAUSE_S = 0.5
MAX_PAUSE_S = 15.0
PART_BYTES = 1 << 20
TRANSIENT_STATUSES = {502, 503, 504}
PROBLEM_PREFIX = "urn:segserve:problem:"
# Problems of parts that are away, and stay so until somebody mends them; others pass when there is less to do.
AWAY_CODES = {JobsUnavailable.code, CacheUnavailable.code}


class RetryingClient:
    """`RetryingClient` repeats requests that the server could not answer just now.

    Repeating a request must do no harm.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._has_answered = False

    def send(self, method: str, path: str, *, begins: bool = False, **content: Any) -> httpx.Response:
        """Send a request until it is answered.

        begins: the request begins work, and is not in the middle of some: a part of the server that is away, such as
        the jobs' Redis, is waited for only for `GIVE_UP_BEGINNING_S`.

        Raises Unavailable with the cause: at once where the server has never answered, otherwise after `GIVE_UP_S`.
        """
        return self._repeat(lambda: self._client.request(method, path, **content), begins=begins)

    def download(
        self, path: str, params: dict[str, str], receive: Callable[[Iterator[bytes]], None]
    ) -> httpx.Response:
        """GET a large body.

        receive: called with the parts of the body; called again with all parts where the connection broke.

        Raises Unavailable as `send` does.
        """

        def attempt() -> httpx.Response:
            with self._client.stream("GET", path, params=params) as response:
                if response.is_success:
                    self._has_answered = True
                    receive(response.iter_bytes(PART_BYTES))
                else:
                    response.read()
                return response

        return self._repeat(attempt)

    def _repeat(self, attempt: Callable[[], httpx.Response], *, begins: bool = False) -> httpx.Response:
        failing_since, pause = None, MIN_PAUSE_S
        while True:
            try:
                response = attempt()
                self._has_answered = True
                if response.status_code not in TRANSIENT_STATUSES:
                    return response
                failure, retry_after_s = read_refusal(self._client, response), read_retry_after(response)
                is_away = failure.code in AWAY_CODES
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure, retry_after_s = (
                    unreachable_error(self._client, str(error) or type(error).__name__),
                    0.0,
                )
                is_away = False
                if not self._has_answered:
                    raise failure from None
            # The time counts from the first failure, not from the start: a download may last longer than the limit.
            failing_since = failing_since or time.monotonic()
            give_up_s = GIVE_UP_BEGINNING_S if begins and is_away else GIVE_UP_S
            if time.monotonic() - failing_since > give_up_s:
                raise failure
            time.sleep(min(max(retry_after_s, pause), MAX_PAUSE_S))
            pause = min(2 * pause, MAX_PAUSE_S)


def unreachable_error(client: httpx.Client, reason: str) -> Unavailable:
    """Return the error for a server that does not answer."""
    return Unavailable(
        f"{client.base_url} cannot be reached: {reason}.",
        remedy="Is that the address of a running segserve?",
    )


class RefusedByServer(Unavailable):
    """The server answered that it cannot do it now. code: of its problem document."""

    def __init__(self, message: str, remedy: str, code: str) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code  # type: ignore[misc]


def read_refusal(client: httpx.Client, response: httpx.Response) -> Unavailable:
    """Return the error for an answer that says "not now": the server's own reason, where it gives one."""
    try:
        problem = response.json()
        code = str(problem["type"]).removeprefix(PROBLEM_PREFIX)
        return RefusedByServer(str(problem["detail"]), str(problem.get("remedy", "")), code)
    except (ValueError, KeyError, TypeError):
        return unreachable_error(client, f"it answers with status {response.status_code}")


def read_retry_after(response: httpx.Response) -> float:
    """Return the seconds of the Retry-After header, 0 without one."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0
