"""When a request that failed is sent again, and after how long. Pure but for the clock and the dice."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from segserve_client.errors import ClientError, Problem, Unreachable, parse_problem
from segserve_client.requests import Answer, Request

# Answers that say "not now": nothing was done, so any request may be repeated.
_NOT_NOW = (429, 503)
# Answers of a proxy whose service did not answer: it may have done what it was asked for.
_NO_ANSWER = (502, 504)
# Parts of the service that are away, and stay so until somebody mends them; others pass when there is less to do.
_AWAY_CODES = ("jobs_unavailable", "cache_unavailable")


@dataclass(frozen=True)
class RetryPolicy:
    """How long a client keeps on asking. A service that has never answered is not asked again.

    give_up_s: after so long without an answer. give_up_beginning_s: the same for work that has not begun, where a part
    of the service is away. min_pause_s, max_pause_s: the pause between two attempts doubles from one to the other; a
    longer one that the service asks for (Retry-After) counts.
    """

    give_up_s: float = 120.0
    give_up_beginning_s: float = 10.0
    min_pause_s: float = 0.5
    max_pause_s: float = 15.0


NO_RETRIES = RetryPolicy(give_up_s=0.0, give_up_beginning_s=0.0)


@dataclass(frozen=True)
class Failure:
    """An attempt that failed. may_repeat: sending the request again can do no harm."""

    error: ClientError
    may_repeat: bool


def read_failure(address: str, request: Request, answer: Answer) -> Failure | None:
    """Return why an answer is a failure, or None where it is none."""
    if 200 <= answer.status < 300:
        return None
    try:
        error: ClientError = parse_problem(answer.json(), answer.status, read_retry_after(answer.headers))
    except ValueError:
        error = Unreachable(address, f"it answers with status {answer.status}")
    repeatable = answer.status in _NOT_NOW or (answer.status in _NO_ANSWER and request.is_repeatable)
    return Failure(error, repeatable)


def read_retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of the header Retry-After, 0 without one."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


class RetryState:
    """The attempts of one request, or of one stream."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self.reset()

    def reset(self) -> None:
        """Something has come: the time without an answer begins anew."""
        self._failing_since: float | None = None
        self._pause_s = self._policy.min_pause_s

    def next_pause(self, request: Request, failure: Failure) -> float:
        """Return after how many seconds to send the request again. Raises the failure's error where not."""
        error = failure.error
        if not failure.may_repeat:
            raise error
        now = time.monotonic()
        if (
            self._failing_since is None
        ):  # not from the first attempt on: a download may last longer than the limit
            self._failing_since = now
        is_away = isinstance(error, Problem) and error.code in _AWAY_CODES
        policy = self._policy
        limit = policy.give_up_beginning_s if request.begins and is_away else policy.give_up_s
        asked_s = error.retry_after_s if isinstance(error, Problem) else 0.0
        # Clients that were refused together do not come back together.
        pause = max(asked_s + random.uniform(0, policy.min_pause_s), self._pause_s * random.uniform(0.5, 1))  # noqa: S311
        self._pause_s = min(2 * self._pause_s, policy.max_pause_s)
        if now + pause - self._failing_since > limit:
            raise error
        return pause
