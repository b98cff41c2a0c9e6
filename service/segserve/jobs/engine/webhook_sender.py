"""Webhooks, sent when jobs end: signed as Standard Webhooks says (https://www.standardwebhooks.com, version 1.0.0),
at least once each, and always under the same id."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import structlog

from segserve.errors import BadInput, JobsUnavailable, SegserveError
from segserve.jobs.engine.job_json import job_to_json
from segserve.jobs.engine.webhook_queue import DueWebhook, WebhookQueue
from segserve.outbound_http import HostAllowlist, UrlPurpose, describe_status, parse_url

# The specification's example of a schedule: three days in all.
MINUTE_S, HOUR_S = 60, 3600
RETRY_DELAYS_S = (5, 5 * MINUTE_S, 30 * MINUTE_S, *(hours * HOUR_S for hours in (2, 5, 10, 14, 20, 24)))
MAX_JITTER = 0.1  # of a delay, at most
HTTP_GONE = 410  # the receiver wants no more
SECRET_BYTES = (24, 64)  # as the specification has it
MAX_CONCURRENT = 4
POLL_S = 1.0
WEBHOOK_PURPOSE = UrlPurpose(
    field="webhook",
    off="Webhooks are off.",
    denied="Webhooks may not be sent to",
    failed="The webhook cannot be sent.",
    instead="leave it out and look at the job with GET /v1/jobs/{job_id}",
    settings="SEGSERVE_WEBHOOK",
)

CountOutcome = Callable[[str], None]

log = structlog.get_logger(__name__)


class WebhookSigner:
    """secret: base64, after "whsec_" or not. Raises BadInput."""

    def __init__(self, secret: str | None) -> None:
        try:
            self._key = base64.b64decode((secret or "").removeprefix("whsec_"), validate=True)
        except binascii.Error:
            self._key = b""
        if not SECRET_BYTES[0] <= len(self._key) <= SECRET_BYTES[1]:
            wrong = "is needed to sign webhooks" if secret is None else "is no secret"
            raise BadInput(
                f"SEGSERVE_WEBHOOK_SECRET {wrong}: whsec_ and {SECRET_BYTES[0]} to {SECRET_BYTES[1]} bytes in base64.",
                field="webhook_secret",
                remedy="Make one with: echo whsec_$(openssl rand -base64 32). Or leave SEGSERVE_WEBHOOK_HOSTS empty.",
            )

    def headers(self, message_id: str, body: bytes, now: int) -> dict[str, str]:
        """now: seconds since the epoch."""
        signed = f"{message_id}.{now}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(now),
            "webhook-signature": f"v1,{signature}",
        }


class WebhookSender:
    """signer: None where hosts allow nothing. timeout_s: for all of one attempt. count: told "sent", "failed" (one
    attempt) or "given_up"."""

    def __init__(
        self,
        hooks: WebhookQueue,
        hosts: HostAllowlist,
        signer: WebhookSigner | None,
        timeout_s: float,
        count: CountOutcome,
    ) -> None:
        self._hooks, self._hosts, self._signer = hooks, hosts, signer
        self._timeout_s, self._count = timeout_s, count

    def check_url(self, url: str) -> None:
        """Raises BadInput, NotAllowed."""
        self._hosts.check_on()
        self._hosts.check(parse_url(url, WEBHOOK_PURPOSE))

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Each sends what is due, one after another, until cancelled."""
        return [] if self._signer is None else [self._send(self._signer) for _ in range(MAX_CONCURRENT)]

    async def _send(self, signer: WebhookSigner) -> None:
        while True:
            try:
                due = await self._hooks.take(
                    2 * self._timeout_s
                )  # it has ended by then, one way or the other
                if due is not None:
                    await self._attempt(due, signer)
                    continue
            except JobsUnavailable:
                pass
            except Exception:
                log.exception("a webhook met an error of ours")
            await asyncio.sleep(POLL_S)

    async def _attempt(self, due: DueWebhook, signer: WebhookSigner) -> None:
        hook_log = log.bind(job_id=due.job_id, attempt=due.attempt)
        job = await self._hooks.get_ended_job(due)
        if job is None or job.webhook is None:
            hook_log.warning("webhook given up: its job is forgotten")
            await self._give_up(due)
            return
        try:
            status = await self._post(
                job.webhook, f"{due.job_id}_{due.event}", orjson.dumps(job_to_json(job)), signer
            )
            reason = f"It was answered with status {describe_status(status)}."
        except SegserveError as error:
            status, reason = 0, error.message
        except TimeoutError:
            status, reason = 0, f"It took longer than {self._timeout_s:g} s."
        if 200 <= status < 300:
            await self._hooks.remove(due)
            self._count("sent")
            hook_log.info("webhook sent")
            return
        self._count("failed")
        if status == HTTP_GONE or due.attempt > len(RETRY_DELAYS_S):
            hook_log.warning("webhook given up", reason=reason)
            await self._give_up(due)
            return
        delay = RETRY_DELAYS_S[due.attempt - 1] * random.uniform(1, 1 + MAX_JITTER)  # noqa: S311  # no secret
        hook_log.warning("webhook failed", reason=reason, again_in_s=round(delay))
        await self._hooks.reschedule(due, delay)

    async def _give_up(self, due: DueWebhook) -> None:
        await self._hooks.remove(due)
        self._count("given_up")

    async def _post(self, url: str, message_id: str, body: bytes, signer: WebhookSigner) -> int:
        """The answer's status; nothing else of it is read. Raises BadInput, NotAllowed, FetchFailed, TimeoutError."""
        headers = {
            "Content-Type": "application/json",
            **signer.headers(message_id, body, int(time.time())),
        }
        async with (
            asyncio.timeout(self._timeout_s),
            self._hosts.request("POST", parse_url(url, WEBHOOK_PURPOSE), headers, body) as response,
        ):
            return response.status_code
