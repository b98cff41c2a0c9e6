"""Sessions of frontends: what a client does over several requests, such as objects on a video.

A session belongs to the client that opened it, is one of a bounded number, and ends by itself: a client that vanishes
holds nothing for long. Sessions live in this process. With several replicas let a load balancer send all requests of
one client to one of them.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil, inf
from typing import Generic, TypeVar

from segserve.app import Service
from segserve.concurrency_limit import ConcurrencyLimit
from segserve.current_client import Client, current_client
from segserve.errors import NotFound, quote
from segserve.identity.identity import Identity, current_identity, current_tenant
from segserve.types import FrontendName

Value = TypeVar("Value")


class SessionNotFound(NotFound):
    """The session has ended, or is another client's: which of the two is nobody's business."""

    code = "session_not_found"

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"There is no session {quote(session_id)}; it may have ended.",
            remedy="Begin a new one.",
            field="session_id",
        )


@dataclass
class Session(Generic[Value]):
    """owner: the client that opened it. identity: of its key; what the session holds is the tenant's.
    users: requests that use it now.

    opened_at, used_at, seen_at: of the monotonic clock. A sign of life (`Sessions.touch`) is no use.
    """

    owner: Client
    identity: Identity
    value: Value
    opened_at: float
    used_at: float
    seen_at: float
    users: int = 0


class Sessions(Generic[Value]):
    """`Sessions` holds the open sessions of one frontend. For one thread: the event loop's.

    on_end: gives back what the session holds. It runs once for each, however the session ends.
    silence_s: a session ends after so long without any sign of its client, for protocols whose clients give signs of
    life; None: it need not give any.
    """

    def __init__(
        self,
        service: Service,
        frontend: FrontendName,
        on_end: Callable[[Value], Awaitable[None]],
        silence_s: float | None = None,
    ) -> None:
        settings, metrics = service.settings, service.metrics
        self._service, self._frontend, self._on_end = service, frontend, on_end
        self._silence_s = inf if silence_s is None else silence_s
        self._idle_s, self._max_s = settings.session_idle_s, settings.session_max_s
        self._limit = ConcurrencyLimit(
            settings.max_sessions,
            f"The maximum is reached: {settings.max_sessions} sessions are open.",
            remedy="End one, or ask the operator to raise SEGSERVE_MAX_SESSIONS.",
            retry_after_s=30,
            max_client_slots=ceil(settings.max_sessions * settings.max_client_share),
            on_refused=partial(metrics.requests.count_rejection, "sessions"),
            on_client_refused=partial(metrics.requests.count_rejection, "client_sessions"),
        )
        self._sessions: dict[str, Session[Value]] = {}

    def reserve(self) -> None:
        """Raise Busy where no session can be opened: before the work that it needs."""
        if (refusal := self._limit.refusal(client=current_client.get())) is not None:
            raise refusal

    def open(self, value: Value) -> str:
        """Open a session of the current client, and return its id, which nobody can guess. Raises Busy."""
        owner = current_client.get()
        self._limit.acquire(client=owner)
        session_id, now = secrets.token_urlsafe(24), time.monotonic()
        self._sessions[session_id] = Session(owner, current_identity.get(), value, now, now, now)
        self._watch(session_id)
        self._count()
        return session_id

    @contextmanager
    def use(self, session_id: str) -> Iterator[Value]:
        """Yield what a session of the current client holds. It does not end while the block runs, but by `end`.

        Raises SessionNotFound.
        """
        session = self._find(session_id)
        session.users += 1
        try:
            yield session.value
        finally:
            session.users -= 1
            session.used_at = session.seen_at = time.monotonic()

    def touch(self, session_id: str) -> None:
        """Note a sign of life of the client, which does no work. Raises SessionNotFound."""
        self._find(session_id).seen_at = time.monotonic()

    def idle_left_s(self, session_id: str) -> float:
        """Return the seconds until the session ends unless it is used. Raises SessionNotFound."""
        return max(0.0, self._find_ends(self._find(session_id))["idle"])

    def is_open(self, session_id: str) -> bool:
        """Whether a session, of any client, has not ended."""
        return session_id in self._sessions

    def end(self, session_id: str) -> None:
        """End a session of the current client, as the client asks. Raises SessionNotFound."""
        self._find(session_id)
        self._close(session_id, "client")

    def _find(self, session_id: str) -> Session[Value]:
        session = self._sessions.get(session_id)
        if (
            session is None
            or session.owner != current_client.get()
            or session.identity.tenant != current_tenant()
        ):
            raise SessionNotFound(session_id)
        return session

    def _watch(self, session_id: str) -> None:
        """End the session if its time is over, else look again when it will be."""
        if (session := self._sessions.get(session_id)) is None:
            return
        ends = self._find_ends(session)
        reason = min(ends, key=ends.__getitem__)
        if ends[reason] <= 0:
            self._close(session_id, reason)
        else:
            asyncio.get_running_loop().call_later(ends[reason], self._watch, session_id)

    def _find_ends(self, session: Session[Value]) -> dict[str, float]:
        """Return in how many seconds the session ends for each reason, as it is now."""
        now = time.monotonic()
        return {
            "age": session.opened_at + self._max_s - now,
            "idle": self._idle_s if session.users else session.used_at + self._idle_s - now,
            "silent": self._silence_s if session.users else session.seen_at + self._silence_s - now,
        }

    def _close(self, session_id: str, reason: str) -> None:
        session = self._sessions.pop(session_id)
        self._limit.release(client=session.owner)
        self._service.metrics.frontends.count_session_end(self._frontend, reason)
        self._count()

        async def give_back() -> None:
            # A timer, or the service's end, may close it: neither is the tenant's.
            current_identity.set(session.identity)
            await self._on_end(session.value)

        self._service.run_in_background(give_back())

    def _count(self) -> None:
        self._service.metrics.frontends.set_sessions(self._frontend, len(self._sessions))
