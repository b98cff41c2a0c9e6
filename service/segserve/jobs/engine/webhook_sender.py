"""Webhooks: signs and sends them when jobs end, and retries them for three days.

The webhook signature (HMAC-SHA256), the headers and the schedule are those of Standard Webhooks
(https://www.standardwebhooks.com, version 1.0.0). Each webhook is delivered at least once, always under the same id.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import structlog

from segserve.errors import BadInput, JobsUnavailable, SegserveError
from segserve.jobs.engine.job_json import job_to_webhook
from segserve.jobs.engine.webhook_queue import DueWebhook, WebhookQueue
from segserve.outbound_http import HostAllowlist, UrlPurpose, describe_status, parse_url

# The status by which a receiver says that it wants no more webhooks.
HTTP_GONE = 410

# Length of the key, as the specification has it.
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64

# Webhooks sent at the same time, so that a slow receiver does not delay the others.
MAX_CONCURRENT = 4

# How often an empty queue is read.
POLL_S = 1.0

WEBHOOK_PURPOSE = UrlPurpose(
    field="webhook",
    disabled="Webhooks are off.",
    denied="Webhooks may not be sent to",
    failed="The webhook cannot be sent.",
    alternative="leave it out and look at the job with GET /v1/jobs/{job_id}",
    settings_prefix="SEGSERVE_WEBHOOK",
)

# Called with "sent", "failed" (one attempt) or "given_up".
CountOutcome = Callable[[str], None]

log = structlog.get_logger(__name__)


class WebhookSigner:
    """`WebhookSigner` makes the signature headers of webhooks.

    secret: base64, with or without the prefix "whsec_". Raises BadInput if it is missing, not base64 or of another
    length than the specification allows.
    """

    def __init__(self, secret: str | None) -> None:
        try:
            self._key = base64.b64decode((secret or "").removeprefix("whsec_"), validate=True)
        except binascii.Error:
            self._key = b""
        if not MIN_SECRET_BYTES <= len(self._key) <= MAX_SECRET_BYTES:
            problem = "is needed to sign webhooks" if secret is None else "is no valid secret"
            length = f"{MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}"
            raise BadInput(
                f"SEGSERVE_WEBHOOK_SECRET {problem}: it must be whsec_ and {length} bytes in base64.",
                field="webhook_secret",
                remedy="Make one with: echo whsec_$(openssl rand -base64 32). Or leave SEGSERVE_WEBHOOK_HOSTS empty.",
            )

    def headers(self, message_id: str, body: bytes, now: int) -> dict[str, str]:
        """Return the headers webhook-id, webhook-timestamp and webhook-signature. now: seconds since the epoch."""
        signed = f"{message_id}.{now}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(now),
            "webhook-signature": f"v1,{signature}",
        }


class WebhookSender:
    """`WebhookSender` sends the webhooks that are due.

    hosts: where webhooks may be sent to.
    signer: None if webhooks are off.
    timeout_s: for one attempt, from the connection to the status.
    count: counts the outcomes.
    """

    def __init__(
        self,
        queue: WebhookQueue,
        hosts: HostAllowlist,
        signer: WebhookSigner | None,
        timeout_s: float,
        count: CountOutcome,
    ) -> None:
        self._queue, self._hosts, self._signer = queue, hosts, signer
        self._timeout_s, self._count = timeout_s, count

    def check_url(self, url: str) -> None:
        """Check the webhook URL of a request. Raises BadInput, NotAllowed."""
        self._hosts.check_enabled()
        self._hosts.check_url(parse_url(url, WEBHOOK_PURPOSE))

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return the senders: each sends one due webhook after another, until cancelled."""
        return [] if self._signer is None else [self._send(self._signer) for _ in range(MAX_CONCURRENT)]

    async def _send(self, signer: WebhookSigner) -> None:
        while True:
            try:
                # By then the attempt has ended, one way or the other.
                due = await self._queue.take(2 * self._timeout_s)
                if due is not None:
                    await self._attempt(due, signer)
                    continue
            except JobsUnavailable:
                pass
            except Exception:
                log.exception("a webhook failed with an internal error")
            await asyncio.sleep(POLL_S)

    async def _attempt(self, due: DueWebhook, signer: WebhookSigner) -> None:
        webhook_log = log.bind(job_id=due.job_id, attempt=due.attempt)
        job = await self._queue.get_ended_job(due)
        if job is None or job.webhook is None:
            webhook_log.warning("webhook given up: its job has expired")
            await self._give_up(due)
            return
        try:
            status = await self._post(
                job.webhook, f"{due.job_id}_{due.event}", orjson.dumps(job_to_webhook(job)), signer
            )
            reason = f"The receiver answered with status {describe_status(status)}."
        except SegserveError as error:
            status, reason = 0, error.message
        except TimeoutError:
            status, reason = 0, f"The attempt took longer than {self._timeout_s:g} s."
        if 200 <= status < 300:
            await self._queue.remove(due)
            self._count("sent")
            webhook_log.info("webhook sent")
            return
        self._count("failed")
        delay_s = due.retry_delay_s
        if status == HTTP_GONE or delay_s is None:
            webhook_log.warning("webhook given up", reason=reason)
            await self._give_up(due)
            return
        webhook_log.warning("webhook failed", reason=reason, retry_in_s=round(delay_s))
        await self._queue.reschedule(due, delay_s)

    async def _give_up(self, due: DueWebhook) -> None:
        await self._queue.remove(due)
        self._count("given_up")

    async def _post(self, url: str, message_id: str, body: bytes, signer: WebhookSigner) -> int:
        """Send a webhook and return the status of the answer. Nothing else of the answer is read.

        Raises BadInput, NotAllowed, FetchFailed, TimeoutError.
        """
        headers = {
            "Content-Type": "application/json",
            **signer.headers(message_id, body, int(time.time())),
        }
        async with (
            asyncio.timeout(self._timeout_s),
            self._hosts.request("POST", parse_url(url, WEBHOOK_PURPOSE), headers, body) as response,
        ):
            return response.status_code
