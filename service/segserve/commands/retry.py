"""HTTP calls with retry: a server may be busy or restarted in the middle of an hour's work."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from segserve.errors import Unavailable

# Give up after this long without an answer. A restarted server has loaded its models long before.
GIVE_UP_S = 300.0
# The pause between two attempts doubles from the first to the last of these.
MIN_PAUSE_S = 0.5
MAX_PAUSE_S = 15.0
PART_BYTES = 1 << 20
TRANSIENT_STATUSES = {502, 503, 504}


class RetryingClient:
    """`RetryingClient` repeats requests that the server could not answer just now.

    Repeating a request must do no harm.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._has_answered = False

    def send(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Send a request until it is answered.

        Raises Unavailable: at once where the server has never answered, otherwise after `GIVE_UP_S`.
        """
        return self._repeat(lambda: self._client.request(method, path, **content))

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

    def _repeat(self, attempt: Callable[[], httpx.Response]) -> httpx.Response:
        failing_since, pause = None, MIN_PAUSE_S
        while True:
            try:
                response = attempt()
                self._has_answered = True
                if response.status_code not in TRANSIENT_STATUSES:
                    return response
                reason, retry_after_s = (
                    f"it answers with status {response.status_code}",
                    read_retry_after(response),
                )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason, retry_after_s = str(error) or type(error).__name__, 0.0
                if not self._has_answered:
                    raise unreachable_error(self._client, reason) from None
            # The time counts from the first failure, not from the start: a download may last longer than the limit.
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since > GIVE_UP_S:
                raise unreachable_error(self._client, reason)
            time.sleep(min(max(retry_after_s, pause), MAX_PAUSE_S))
            pause = min(2 * pause, MAX_PAUSE_S)


def unreachable_error(client: httpx.Client, reason: str) -> Unavailable:
    """Return the error for a server that does not answer."""
    return Unavailable(
        f"{client.base_url} cannot be reached: {reason}.",
        remedy="Is that the address of a running segserve?",
    )


def read_retry_after(response: httpx.Response) -> float:
    """Return the seconds of the Retry-After header, 0 without one."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0
