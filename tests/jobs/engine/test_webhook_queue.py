"""Webhooks: every end of a job that has a webhook is sent, signed, until it is delivered."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import standardwebhooks

from segserve.cancellation import cancel_and_wait
from segserve.errors import BadInput, NotAllowed
from segserve.jobs.engine import webhook_queue, webhook_sender
from segserve.jobs.engine.job import JobError, PublishedChunk
from segserve.jobs.engine.job_json import job_to_webhook
from segserve.jobs.engine.retry_policy import MAX_ATTEMPTS
from segserve.jobs.engine.webhook_queue import WebhookQueue
from segserve.jobs.engine.webhook_sender import WEBHOOK_PURPOSE, WebhookSender, WebhookSigner
from segserve.outbound_http import HostAllowlist
from segserve.store.private_redis import PrivateRedis
from tests.docs_blocks import read_blocks
from tests.jobs.conftest import OpenEngine
from tests.jobs.counting_job import JobEngine
from tests.jobs.engine.test_job_store import begin_attempt, make_job
from tests.jobs.webhook_receiver import WebhookReceiver, answer_status

SECRET = "whsec_" + "c2Vnc2VydmU" * 4
LOCALHOST = "127.0.0.1"
ROOT = Path(__file__).parents[3]
TIMEOUT_S = 20.0

Story = Callable[[JobEngine, WebhookQueue], Awaitable[None]]


@pytest.fixture
def run(open_engine: OpenEngine, jobs_redis: PrivateRedis) -> Callable[[Story], None]:
    def run_story(story: Story) -> None:
        async def in_loop() -> None:
            webhooks = WebhookQueue(jobs_redis.url, 2.0)
            try:
                async with open_engine() as engine:
                    await story(engine, webhooks)
            finally:
                await webhooks.close()

        asyncio.run(in_loop())

    return run_story


class OutcomeCounts(dict[str, int]):
    def __call__(self, result: str) -> None:
        self[result] = self.get(result, 0) + 1


@asynccontextmanager
async def sending(
    webhooks: WebhookQueue,
    *,
    private: bool = True,
    timeout_s: float = 5.0,
    hosts: tuple[str, ...] = (LOCALHOST,),
) -> AsyncIterator[OutcomeCounts]:
    counts = OutcomeCounts()
    allowed = HostAllowlist(hosts, private=private, purpose=WEBHOOK_PURPOSE)
    sender = WebhookSender(webhooks, allowed, WebhookSigner(SECRET), timeout_s, counts)
    running = [asyncio.create_task(work) for work in sender.background_tasks()]
    try:
        yield counts
    finally:
        await cancel_and_wait(running)


async def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def submit(engine: JobEngine, url: str | None, name: str = "a") -> None:
    await engine.store.submit(replace(make_job(name), webhook=url), b"{}", None)


async def submit_and_succeed(engine: JobEngine, url: str | None, name: str = "a") -> None:
    await submit(engine, url, name)
    await engine.store.succeed(await begin_attempt(engine, name))


def test_every_end_of_a_job_leaves_a_webhook_and_nothing_else_does(run: Callable[[Story], None]) -> None:
    async def story(engine: JobEngine, webhooks: WebhookQueue) -> None:
        store = engine.store
        for name in ("succeeded", "failed", "cancelled", "died"):
            await submit(engine, "http://x/", name)
        await submit_and_succeed(engine, None, "silent")
        await store.release(await begin_attempt(engine, "succeeded"))
        await store.publish(
            start := await begin_attempt(engine, "succeeded"), 0, PublishedChunk(4, 4, 0, 0), 1.0
        )
        assert await webhooks.count() == 0
        await store.succeed(start)
        await store.fail(await begin_attempt(engine, "failed"), JobError("bad_input", "No."))
        await store.cancel("t", "cancelled")
        for _ in range(MAX_ATTEMPTS):
            await begin_attempt(engine, "died")
        await engine.end_lease("t", "died")
        assert await store.begin("t", "died", token="x") is None
        assert await webhooks.count() == 4
        job_ids = set[str]()  # two of one millisecond may come in either order
        for _ in range(4):
            due = await webhooks.take(60)
            assert due is not None
            assert (due.tenant, due.attempt) == ("t", 1)
            assert await webhooks.get_ended_job(due) == await store.get("t", due.job_id)
            job_ids.add(due.job_id)
        assert job_ids == {"succeeded", "failed", "cancelled", "died"}
        assert await webhooks.take(60) is None, "all webhooks are taken"

    run(story)


def test_a_webhook_is_signed_as_standard_webhooks_says(run: Callable[[Story], None]) -> None:
    async def story(engine: JobEngine, webhooks: WebhookQueue) -> None:
        with WebhookReceiver().listening() as receiver:
            async with sending(webhooks) as counts:
                await submit_and_succeed(engine, f"{receiver.url}/done?x=1")
                await wait_until(lambda: counts == {"sent": 1})
        [received] = receiver.received
        assert received.path == "/done?x=1"
        assert received.headers["host"] == f"{LOCALHOST}:{receiver.port}"
        assert received.headers["content-type"] == "application/json"
        sent = orjson.loads(received.body)
        assert sent == job_to_webhook(await engine.store.get("t", "a"))
        assert (sent["tenant"], sent["submitted_by"]) == ("t", None)
        oracle = standardwebhooks.Webhook(SECRET)
        assert oracle.verify(received.body, dict(received.headers))["state"] == "succeeded"
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            oracle.verify(received.body.replace(b"succeeded", b"cancelled"), dict(received.headers))
        assert await webhooks.count() == 0

    run(story)


def test_a_receiver_checks_the_signature_as_the_documentation_shows() -> None:
    headers = WebhookSigner(SECRET).headers("id", body := b'{"state": "failed"}', int(time.time()))
    scope: dict[str, Callable[[str, dict[str, str], bytes], bool]] = {}
    (code,) = [
        block.text for block in read_blocks(ROOT / "docs" / "jobs.md") if "def is_genuine" in block.text
    ]
    exec(code, scope)
    is_genuine = scope["is_genuine"]
    assert is_genuine(SECRET, headers, body)
    assert not is_genuine(SECRET, headers, body + b" ")
    assert not is_genuine(SECRET[:-4] + "AAAA", headers, body)
    assert not is_genuine(SECRET, WebhookSigner(SECRET).headers("id", body, int(time.time()) - 600), body)


def test_a_webhook_is_retried_under_one_id_until_it_is_delivered(
    run: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_queue, "RETRY_DELAYS_S", (0.01,) * 9)
    monkeypatch.setattr(webhook_sender, "POLL_S", 0.01)
    refusals = [answer_status(500), answer_status(302, location="/elsewhere"), answer_status(404)]

    async def story(engine: JobEngine, webhooks: WebhookQueue) -> None:
        with WebhookReceiver(*refusals).listening() as receiver:
            async with sending(webhooks) as counts:
                await submit_and_succeed(engine, f"{receiver.url}/done")
                await wait_until(lambda: counts == {"failed": 3, "sent": 1})
        assert [request.path for request in receiver.received] == ["/done"] * 4, "no redirect is followed"
        assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
        assert len({request.body for request in receiver.received}) == 1

    run(story)


def test_a_webhook_is_given_up_after_all_attempts_or_when_the_receiver_refuses_it(
    run: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_queue, "RETRY_DELAYS_S", (0.01, 0.01))
    monkeypatch.setattr(webhook_sender, "POLL_S", 0.01)

    async def story(engine: JobEngine, webhooks: WebhookQueue) -> None:
        with WebhookReceiver(*[answer_status(503)] * 3, answer_status(410)).listening() as receiver:
            async with sending(webhooks) as counts:
                await submit_and_succeed(engine, receiver.url)
                await wait_until(lambda: counts == {"failed": 3, "given_up": 1})
                await submit_and_succeed(engine, receiver.url, "b")
                await wait_until(lambda: counts == {"failed": 4, "given_up": 2})
        assert await webhooks.count() == 0

    run(story)


def test_retries_go_on_for_three_days() -> None:
    assert sum(webhook_queue.RETRY_DELAYS_S) == pytest.approx(75.6 * 3600, rel=0.01)


def test_a_webhook_that_a_dead_sender_took_is_sent_again(run: Callable[[Story], None]) -> None:
    async def story(engine: JobEngine, webhooks: WebhookQueue) -> None:
        with WebhookReceiver().listening() as receiver:
            await submit_and_succeed(engine, receiver.url)
            assert await webhooks.take(0.5) is not None
            async with sending(webhooks) as counts:
                await wait_until(lambda: counts == {"sent": 1})
        assert len(receiver.received) == 1

    run(story)


def test_a_retried_job_sends_a_webhook_for_each_end(run: Callable[[Story], None]) -> None:
    async def story(engine: JobEngine, webhooks: WebhookQueue) -> None:
        with WebhookReceiver().listening() as receiver:
            await submit(engine, receiver.url)
            await engine.store.cancel("t", "a")
            await engine.store.retry("t", "a")
            await engine.store.succeed(await begin_attempt(engine))
            async with sending(webhooks) as counts:
                await wait_until(lambda: counts == {"sent": 2})
        states = {
            request.headers["webhook-id"]: orjson.loads(request.body)["state"]
            for request in receiver.received
        }
        assert sorted(states.values()) == ["cancelled", "succeeded"]

    run(story)


def test_a_receiver_that_does_not_answer_delays_no_other(
    run: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_sender, "POLL_S", 0.01)
    hang = threading.Event()

    async def story(engine: JobEngine, webhooks: WebhookQueue) -> None:
        hanging = WebhookReceiver(lambda handler: hang.wait() and None)  # type: ignore[func-returns-value]
        with hanging.listening() as slow, WebhookReceiver().listening() as quick:
            async with sending(webhooks, timeout_s=3.0) as counts:
                await submit_and_succeed(engine, slow.url)
                await wait_until(lambda: len(slow.received) == 1)
                await submit_and_succeed(engine, quick.url, "b")
                await wait_until(lambda: counts == {"sent": 1})
                await wait_until(lambda: counts == {"sent": 1, "failed": 1})
            hang.set()
        assert await webhooks.count() == 1

    run(story)


def test_nothing_is_sent_to_hosts_that_are_not_allowed(run: Callable[[Story], None]) -> None:
    async def story(engine: JobEngine, webhooks: WebhookQueue) -> None:
        with WebhookReceiver().listening() as receiver:
            async with sending(webhooks, private=False) as counts:
                await submit_and_succeed(engine, receiver.url)
                await wait_until(lambda: counts == {"failed": 1})
            async with sending(webhooks, hosts=("example.org",)) as counts:
                await submit_and_succeed(engine, receiver.url, "b")
                await wait_until(lambda: counts == {"failed": 1})
        assert receiver.received == []

    run(story)


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("ftp://webhooks.test/x", BadInput, "'ftp'"),
        ("/done", BadInput, "no host"),
        ("https://user:secret@webhooks.test/", BadInput, "credentials"),
        ("https://other.test/", NotAllowed, "SEGSERVE_WEBHOOK_HOSTS"),
    ],
)
def test_bad_urls_are_refused_when_a_job_is_submitted(url: str, kind: type[Exception], words: str) -> None:
    hosts = HostAllowlist(["webhooks.test"], private=False, purpose=WEBHOOK_PURPOSE)
    sender = WebhookSender(
        WebhookQueue("redis://nowhere", 1.0), hosts, WebhookSigner(SECRET), 1.0, OutcomeCounts()
    )
    with pytest.raises(kind, match=words) as caught:
        sender.check_url(url)
    assert caught.value.field == "webhook"  # type: ignore[attr-defined]
    sender.check_url("https://webhooks.test/done")


@pytest.mark.parametrize("secret", [None, "", "whsec_", "whsec_c2hvcnQ=", "no base64 at all!", "A" * 100])
def test_bad_secrets_are_refused(secret: str | None) -> None:
    with pytest.raises(BadInput, match="SEGSERVE_WEBHOOK_SECRET") as caught:
        WebhookSigner(secret)
    assert not secret or secret not in str(caught.value) or secret == "whsec_"
