"""How many requests are answered at the same time: for each kind of request, in all and for one client."""

import time
from enum import StrEnum
from functools import partial
from math import ceil

from segserve.concurrency_limit import ConcurrencyLimit
from segserve.metrics import Metrics
from segserve.settings import Settings


class RequestKind(StrEnum):
    """The kinds that have slots of their own, so that none of them takes those of another."""

    UPLOAD = "uploads"  # sends a file, perhaps slowly
    WATCH = "watchers"  # waits for news of a job or of the health, or reads results line by line
    CLICK = "clicks"
    OTHER = "in_flight"


class RequestLimits:
    """`RequestLimits` holds the slots of all requests to this process, over REST and gRPC together.

    One client holds at most the setting `max_client_share` of each kind. The value of a kind is its reason in the
    metric of rejections; with "client_" before it, the client had all of its share.

    last_request_at: when the latest request began, as `time.monotonic()`.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        max_slots = {
            RequestKind.UPLOAD: (settings.max_uploads, "uploads run"),
            RequestKind.WATCH: (settings.max_watchers, "clients follow a job or read results"),
            RequestKind.CLICK: (settings.max_clicks, "clicks are being answered"),
            RequestKind.OTHER: (settings.max_in_flight, "requests are being answered"),
        }
        self._limits = {
            kind: ConcurrencyLimit(
                count,
                f"The maximum is reached: {count} {running}.",
                remedy=f"Try again in a second, or ask the operator to raise SEGSERVE_MAX_{kind.value.upper()}.",
                retry_after_s=1,
                max_client_slots=ceil(count * settings.max_client_share),
                on_refused=partial(metrics.requests.count_rejection, kind.value),
                on_client_refused=partial(metrics.requests.count_rejection, f"client_{kind.value}"),
            )
            for kind, (count, running) in max_slots.items()
        }

        self.last_request_at = 0.0
        # A body of JSON is held until it is complete and checked. Slots are MB.
        body_mb = max(settings.body_memory_mb, settings.max_request_mb)
        self.body_memory_mb = ConcurrencyLimit(
            body_mb,
            f"The bodies of all requests together are over {body_mb} MB.",
            remedy="Try again in a second, or ask the operator to raise SEGSERVE_BODY_MEMORY_MB.",
            retry_after_s=1,
            max_client_slots=ceil(body_mb * settings.max_client_share),
            on_refused=partial(metrics.requests.count_rejection, "body_memory"),
            on_client_refused=partial(metrics.requests.count_rejection, "client_body_memory"),
        )

    def note_request(self) -> None:
        """Note that a request begins; checks of the health are none."""
        self.last_request_at = time.monotonic()

    def __getitem__(self, kind: RequestKind) -> ConcurrencyLimit:
        return self._limits[kind]
