"""Webhooks: every end of a job that wants it is told, signed, until it has arrived."""

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
from segserve.jobs.engine import webhook_sender
from segserve.jobs.engine.job import JobError, PublishedChunk
from segserve.jobs.engine.job_json import job_to_json
from segserve.jobs.engine.retry_policy import MAX_ATTEMPTS
from segserve.jobs.engine.webhook_queue import WebhookQueue
from segserve.jobs.engine.webhook_sender import RETRY_DELAYS_S, WEBHOOK_PURPOSE, WebhookSender, WebhookSigner
from segserve.outbound_http import HostAllowlist
from segserve.store.private_redis import PrivateRedis
from tests.jobs.conftest import Opening
from tests.jobs.counting import Parts
from tests.jobs.engine.test_job_store import begun, job
from tests.jobs.receiving import Receiver, status

SECRET = "whsec_" + "c2Vnc2VydmU" * 4
HERE = "127.0.0.1"
ROOT = Path(__file__).parents[3]
PATIENCE_S = 20.0

Story = Callable[[Parts, WebhookQueue], Awaitable[None]]


@pytest.fixture
def run(opening: Opening, jobs_redis: PrivateRedis) -> Callable[[Story], None]:
    def tell(story: Story) -> None:
        async def in_loop() -> None:
            hooks = WebhookQueue(jobs_redis.url, 2.0)
            try:
                async with opening() as parts:
                    await story(parts, hooks)
            finally:
                await hooks.close()

        asyncio.run(in_loop())

    return tell


class Counts(dict[str, int]):
    def __call__(self, result: str) -> None:
        self[result] = self.get(result, 0) + 1


@asynccontextmanager
async def sending(
    hooks: WebhookQueue, *, private: bool = True, timeout_s: float = 5.0, hosts: tuple[str, ...] = (HERE,)
) -> AsyncIterator[Counts]:
    counts = Counts()
    allowed = HostAllowlist(hosts, private=private, purpose=WEBHOOK_PURPOSE)
    hook_sender = WebhookSender(hooks, allowed, WebhookSigner(SECRET), timeout_s, counts)
    running = [asyncio.create_task(work) for work in hook_sender.background_tasks()]
    try:
        yield counts
    finally:
        await cancel_and_wait(running)


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def submitted(parts: Parts, url: str | None, name: str = "a") -> None:
    await parts.ledger.submit(replace(job(name), webhook=url), b"{}", None)


async def succeeded(parts: Parts, url: str | None, name: str = "a") -> None:
    await submitted(parts, url, name)
    await parts.ledger.succeed(await begun(parts, name))


def test_every_way_to_end_leaves_a_hook_and_nothing_else_does(run: Callable[[Story], None]) -> None:
    async def story(parts: Parts, hooks: WebhookQueue) -> None:
        ledger = parts.ledger
        for name in ("succeeded", "failed", "cancelled", "died"):
            await submitted(parts, "http://x/", name)
        await succeeded(parts, None, "silent")
        await ledger.release(await begun(parts, "succeeded"))
        await ledger.publish(start := await begun(parts, "succeeded"), 0, PublishedChunk(4, 4, 0, 0), 1.0)
        assert await hooks.count() == 0
        await ledger.succeed(start)
        await ledger.fail(await begun(parts, "failed"), JobError("bad_input", "No."))
        await ledger.cancel("t", "cancelled")
        for _ in range(MAX_ATTEMPTS):
            await begun(parts, "died")
        await parts.end_lease("t", "died")
        assert await ledger.begin("t", "died", token="x") is None
        assert await hooks.count() == 4
        job_ids = set[str]()  # of two in one millisecond either may come first
        for _ in range(4):
            due = await hooks.take(60)
            assert due is not None
            assert (due.tenant, due.attempt) == ("t", 1)
            assert await hooks.get_ended_job(due) == await ledger.get("t", due.job_id)
            job_ids.add(due.job_id)
        assert job_ids == {"succeeded", "failed", "cancelled", "died"}
        assert await hooks.take(60) is None, "all are taken"

    run(story)


def test_it_is_signed_as_the_standard_says(run: Callable[[Story], None]) -> None:
    async def story(parts: Parts, hooks: WebhookQueue) -> None:
        with Receiver().listening() as receiver:
            async with sending(hooks) as counts:
                await succeeded(parts, f"{receiver.url}/done?x=1")
                await until(lambda: counts == {"sent": 1})
        [received] = receiver.received
        assert received.path == "/done?x=1"
        assert received.headers["host"] == f"{HERE}:{receiver.port}"
        assert received.headers["content-type"] == "application/json"
        assert orjson.loads(received.body) == job_to_json(await parts.ledger.get("t", "a"))
        oracle = standardwebhooks.Webhook(SECRET)
        assert oracle.verify(received.body, dict(received.headers))["state"] == "succeeded"
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            oracle.verify(received.body.replace(b"succeeded", b"cancelled"), dict(received.headers))
        assert await hooks.count() == 0

    run(story)


def test_a_receiver_checks_it_as_the_documentation_shows() -> None:
    headers = WebhookSigner(SECRET).headers("id", body := b'{"state": "failed"}', int(time.time()))
    scope: dict[str, Callable[[str, dict[str, str], bytes], bool]] = {}
    text = (ROOT / "docs" / "jobs.md").read_text()
    lines = text[text.index("    import base64") :].partition("\n\n")[0].splitlines()
    exec("\n".join(line[4:] for line in lines), scope)
    genuine = scope["genuine"]
    assert genuine(SECRET, headers, body)
    assert not genuine(SECRET, headers, body + b" ")
    assert not genuine(SECRET[:-4] + "AAAA", headers, body)
    assert not genuine(SECRET, WebhookSigner(SECRET).headers("id", body, int(time.time()) - 600), body)


def test_it_is_sent_until_it_arrives_under_one_id(
    run: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_sender, "RETRY_DELAYS_S", (0.01,) * 9)
    monkeypatch.setattr(webhook_sender, "POLL_S", 0.01)
    refusals = [status(500), status(302, location="/elsewhere"), status(404)]

    async def story(parts: Parts, hooks: WebhookQueue) -> None:
        with Receiver(*refusals).listening() as receiver:
            async with sending(hooks) as counts:
                await succeeded(parts, f"{receiver.url}/done")
                await until(lambda: counts == {"failed": 3, "sent": 1})
        assert [each.path for each in receiver.received] == ["/done"] * 4, "no redirect is followed"
        assert len({each.headers["webhook-id"] for each in receiver.received}) == 1
        assert len({each.body for each in receiver.received}) == 1

    run(story)


def test_it_is_given_up_after_all_attempts_or_when_it_is_not_wanted(
    run: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_sender, "RETRY_DELAYS_S", (0.01, 0.01))
    monkeypatch.setattr(webhook_sender, "POLL_S", 0.01)

    async def story(parts: Parts, hooks: WebhookQueue) -> None:
        with Receiver(*[status(503)] * 3, status(410)).listening() as receiver:
            async with sending(hooks) as counts:
                await succeeded(parts, receiver.url)
                await until(lambda: counts == {"failed": 3, "given_up": 1})
                await succeeded(parts, receiver.url, "b")
                await until(lambda: counts == {"failed": 4, "given_up": 2})
        assert await hooks.count() == 0

    run(story)


def test_attempts_go_on_for_three_days() -> None:
    assert sum(RETRY_DELAYS_S) == pytest.approx(75.6 * 3600, rel=0.01)


def test_what_a_dead_sender_had_taken_is_sent_again(run: Callable[[Story], None]) -> None:
    async def story(parts: Parts, hooks: WebhookQueue) -> None:
        with Receiver().listening() as receiver:
            await succeeded(parts, receiver.url)
            assert await hooks.take(0.5) is not None
            async with sending(hooks) as counts:
                await until(lambda: counts == {"sent": 1})
        assert len(receiver.received) == 1

    run(story)


def test_a_job_that_is_tried_again_tells_of_each_end(run: Callable[[Story], None]) -> None:
    async def story(parts: Parts, hooks: WebhookQueue) -> None:
        with Receiver().listening() as receiver:
            await submitted(parts, receiver.url)
            await parts.ledger.cancel("t", "a")
            await parts.ledger.retry("t", "a")
            await parts.ledger.succeed(await begun(parts))
            async with sending(hooks) as counts:
                await until(lambda: counts == {"sent": 2})
        states = {each.headers["webhook-id"]: orjson.loads(each.body)["state"] for each in receiver.received}
        assert sorted(states.values()) == ["cancelled", "succeeded"]

    run(story)


def test_who_does_not_answer_delays_nobody_else(
    run: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_sender, "POLL_S", 0.01)
    hang = threading.Event()

    async def story(parts: Parts, hooks: WebhookQueue) -> None:
        with Receiver(lambda to: hang.wait() and None).listening() as slow, Receiver().listening() as quick:  # type: ignore[func-returns-value]
            async with sending(hooks, timeout_s=3.0) as counts:
                await succeeded(parts, slow.url)
                await until(lambda: len(slow.received) == 1)
                await succeeded(parts, quick.url, "b")
                await until(lambda: counts == {"sent": 1})
                await until(lambda: counts == {"sent": 1, "failed": 1})
            hang.set()
        assert await hooks.count() == 1

    run(story)


def test_nothing_goes_to_where_it_may_not(run: Callable[[Story], None]) -> None:
    async def story(parts: Parts, hooks: WebhookQueue) -> None:
        with Receiver().listening() as receiver:
            async with sending(hooks, private=False) as counts:
                await succeeded(parts, receiver.url)
                await until(lambda: counts == {"failed": 1})
            async with sending(hooks, hosts=("example.org",)) as counts:
                await succeeded(parts, receiver.url, "b")
                await until(lambda: counts == {"failed": 1})
        assert receiver.received == []

    run(story)


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("ftp://hooks.test/x", BadInput, "'ftp'"),
        ("/done", BadInput, "no host"),
        ("https://user:secret@hooks.test/", BadInput, "credentials"),
        ("https://other.test/", NotAllowed, "SEGSERVE_WEBHOOK_HOSTS"),
    ],
)
def test_urls_that_are_refused_when_a_job_is_submitted(url: str, kind: type[Exception], words: str) -> None:
    hosts = HostAllowlist(["hooks.test"], private=False, purpose=WEBHOOK_PURPOSE)
    checking = WebhookSender(
        WebhookQueue("redis://nowhere", 1.0), hosts, WebhookSigner(SECRET), 1.0, Counts()
    )
    with pytest.raises(kind, match=words) as caught:
        checking.check_url(url)
    assert caught.value.field == "webhook"  # type: ignore[attr-defined]
    checking.check_url("https://hooks.test/done")


@pytest.mark.parametrize("secret", [None, "", "whsec_", "whsec_c2hvcnQ=", "no base64 at all!", "A" * 100])
def test_secrets_that_are_none(secret: str | None) -> None:
    with pytest.raises(BadInput, match="SEGSERVE_WEBHOOK_SECRET") as caught:
        WebhookSigner(secret)
    assert not secret or secret not in str(caught.value) or secret == "whsec_"
