"""How often a key, or an address, may send requests: rates that all replicas share.

    request -> tokens that this replica holds -> (a few at a time, ahead of need) the counts that replicas share

A click waits for the shared counts only where it comes faster than new tokens do. So a rate costs a click microseconds,
and at most a twentieth of a rate may lie unused at each replica. Rates below 40 requests are counted one by one.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Protocol

from segserve.errors import RateLimited
from segserve.identity.identity import ANONYMOUS, LOCAL_IDENTITY, Identity
from segserve.metrics import Metrics
from segserve.request_limits import RequestKind
from segserve.settings import Settings

if TYPE_CHECKING:
    from limits import RateLimitItem

# A replica takes this part of a rate at once.
TOKENS_SHARE = 1 / 20
# More would lie unused where somebody pauses.
MAX_TOKENS = 64
# Keys and addresses whose tokens are remembered, for each rate. The others' next request asks the shared counts.
MAX_KEYS = 4096
# Counts may say that more is free at once, when it is just not enough.
MIN_REFUSED_S = 0.05


class RateCounts(Protocol):
    """The counts of all replicas. Where they cannot be reached, a replica's own."""

    async def hit(self, rate: "RateLimitItem", key: str, cost: int) -> bool:
        """Count requests, if so many fit into the rate. Returns whether they do."""
        ...

    async def look(self, rate: "RateLimitItem", key: str) -> tuple[int, float]:
        """Return how many requests are left, and in how many seconds there will be more."""
        ...


@dataclass(frozen=True)
class RateUsage:
    """The rest of a rate, for the headers RateLimit-Policy and RateLimit.

    policy: its name. quota: requests in `window_s` seconds. left: about how many more. reset_s: until there are more.
    """

    policy: str
    quota: int
    window_s: int
    left: int
    reset_s: int


@dataclass
class Tokens:
    """The tokens that a replica holds for one key, or address, and one rate.

    held: requests that were counted already, and have not come yet.
    left: requests that were left when the counts were looked at.
    more_at: when there will be more, as `time.monotonic()`. refused_until: the counts are not asked before.
    """

    held: int = 0
    left: int = 0
    more_at: float = 0.0
    refused_until: float = 0.0
    taking: "asyncio.Task[None] | None" = None


class SharedRate:
    """`SharedRate` gives out the tokens of one rate. For one thread: the event loop's.

    policy: its name in headers.
    """

    def __init__(self, policy: str, rate: "RateLimitItem", counts: RateCounts) -> None:
        self.policy, self.rate = policy, rate
        self._counts = counts
        self._at_once = min(max(1, int(rate.amount * TOKENS_SHARE)), MAX_TOKENS)
        self._tokens: OrderedDict[str, Tokens] = OrderedDict()  # the least recently used first

    async def take(self, key: str) -> Tokens | None:
        """Take a token. Returns None where the rate is reached, else what is left."""
        tokens = self._find(key)
        while not tokens.held:
            if time.monotonic() < tokens.refused_until:
                return None
            await asyncio.shield(self._begin_taking(key, tokens))
        tokens.held -= 1
        is_low = self._at_once > 1 and tokens.held <= self._at_once // 2
        if is_low and tokens.taking is None and time.monotonic() >= tokens.refused_until:
            self._begin_taking(key, tokens)
        return tokens

    def describe(self, key: str) -> RateUsage:
        tokens = self._find(key)
        reset_s = ceil(max(0.0, tokens.more_at - time.monotonic()))
        return RateUsage(
            self.policy, self.rate.amount, self.rate.get_expiry(), tokens.left + tokens.held, reset_s
        )

    def _find(self, key: str) -> Tokens:
        tokens = self._tokens.setdefault(key, Tokens())
        self._tokens.move_to_end(key)
        if len(self._tokens) > MAX_KEYS:
            self._tokens.popitem(last=False)
        return tokens

    def _begin_taking(self, key: str, tokens: Tokens) -> "asyncio.Task[None]":
        if tokens.taking is None:
            tokens.taking = asyncio.create_task(self._take_more(key, tokens))
        return tokens.taking

    async def _take_more(self, key: str, tokens: Tokens) -> None:
        shared_key = f"{self.policy}:{key}"  # equal rates of two settings are counted apart
        try:
            taken = 0
            for cost in dict.fromkeys((self._at_once, 1)):
                if await self._counts.hit(self.rate, shared_key, cost):
                    taken = cost
                    break
            left, more_in_s = await self._counts.look(self.rate, shared_key)
            now = time.monotonic()
            tokens.held += taken
            tokens.left, tokens.more_at = left, now + more_in_s
            if not taken:
                tokens.refused_until = now + max(MIN_REFUSED_S, more_in_s)
        finally:
            tokens.taking = None


@dataclass(frozen=True)
class AppliedRates:
    """A setting's rates, all of which a request must fit.

    setting: its name. of_what: what they count, for messages.
    """

    setting: str
    of_what: str
    rates: Sequence[SharedRate]

    def refuse(self, rate: SharedRate, key: str) -> RateLimited:
        usage = rate.describe(key)
        return RateLimited(
            f"More than {usage.quota} {self.of_what} in {usage.window_s} s.",
            remedy=f"Wait before the next one, or ask the operator to raise SEGSERVE_{self.setting.upper()}.",
            retry_after_s=max(1, usage.reset_s),
        )


class RequestRates:
    """`RequestRates` says whether a request fits the rates of its kind, of its key and of its address.

    Where no keys are asked for, every address is a key of its own.

    counts: None where no rate is set.
    """

    def __init__(self, settings: Settings, metrics: Metrics, counts: RateCounts | None) -> None:
        self._metrics = metrics
        requests = self._open("rate_requests", "requests", settings.rate_requests, counts)
        self._of_keys = {
            RequestKind.CLICK: self._open("rate_clicks", "clicks", settings.rate_clicks, counts),
            RequestKind.UPLOAD: self._open("rate_uploads", "uploads", settings.rate_uploads, counts),
            RequestKind.WATCH: requests,
            RequestKind.OTHER: requests,
        }
        of_what = "requests from one address"
        self._of_addresses = self._open("rate_address", of_what, settings.rate_address, counts)

    def _open(self, setting: str, of_what: str, value: str | None, counts: RateCounts | None) -> AppliedRates:
        if not value or counts is None:
            return AppliedRates(setting, of_what, ())
        from limits import parse_many

        name = setting.removeprefix("rate_")
        rates = [SharedRate(f"{name}-{rate.get_expiry()}s", rate, counts) for rate in parse_many(value)]
        return AppliedRates(setting, of_what, rates)

    async def check(
        self, kind: RequestKind, identity: Identity, address: str
    ) -> tuple[RateLimited | None, list[RateUsage]]:
        """Return the refusal of a request, None where it fits, and what is left of the rates."""
        key = address if identity in (LOCAL_IDENTITY, ANONYMOUS) else f"{identity.tenant}/{identity.name}"
        usages: list[RateUsage] = []
        for applied, whose in ((self._of_addresses, address), (self._of_keys[kind], key)):
            for rate in applied.rates:
                tokens = await rate.take(whose)
                usages.append(rate.describe(whose))
                if tokens is None:
                    self._metrics.requests.count_rejection(applied.setting)
                    return applied.refuse(rate, whose), usages
        return None, usages
