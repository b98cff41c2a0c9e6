"""Two replicas, two encoder workers, one Redis, and annotators who click: as one machine carries it, and what
they notice when a worker dies, when Redis is away, and when there are five times too many of them.

BENCH_LOAD_S (default 300) is how long the first two parts last.
"""

import asyncio
import io
import itertools
import json
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from tests.conftest import ExternalRedis
from tests.serving import Encoder, Process, Server

from bench.common import Line, at_least, at_most
from segserve.errors import SegserveError

LOAD_S = float(os.environ.get("BENCH_LOAD_S", "300"))
ANNOTATORS, THINK_S, CLICKS_PER_IMAGE = 32, 2.0, 20
SHARED = 0.2  # of the images are looked at by several
KILL_EVERY_S, AWAY_S = 30.0, 10.0
ENCODED = 'segserve_encoded_images_total{model="starter"}'
SIDE = 256
SEEDS = itertools.count()  # nobody draws the pictures of somebody before


def picture(rng: np.random.Generator) -> bytes:
    """Dark, with some bright discs: another one each time."""
    y, x = np.mgrid[:SIDE, :SIDE]
    values = rng.normal(20, 5, (SIDE, SIDE))
    for _ in range(12):
        (cx, cy), r = rng.uniform(0, SIDE, 2), rng.uniform(6, 20)
        values += 120 * ((x - cx) ** 2 + (y - cy) ** 2 < r * r)
    file = io.BytesIO()
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


class Site:
    """Workers are niced and take one thread each, so that clicks come first."""

    def __init__(self, folder: Path) -> None:
        (folder / "redis").mkdir()
        self.redis = ExternalRedis(folder / "redis")
        shared = {"redis_url": self.redis.url, "encode_threads": "1", "log_level": "error"}
        self.encoders = [Encoder(folder, **shared) for _ in range(2)]
        for encoder in self.encoders:
            nice(encoder)
        url = "ipv4:" + ",".join(e.target for e in self.encoders)
        limits = {
            "decode_threads": "1",  # two replicas share two cores
            "decode_workers": "1",
            "prepared_mb": "64",  # soon full, so that memory that still grows is a leak
        }
        self.servers = [Server(folder, **shared, **limits, encoder_url=url) for _ in range(2)]
        for process in self.processes:
            process.wait_ready()

    @property
    def processes(self) -> list[Process]:
        return [*self.servers, *self.encoders]

    def encoded(self) -> float:
        return sum(e.metric(ENCODED) for e in self.encoders)

    def resident_mb(self) -> float:
        return sum(p.metric("process_resident_memory_bytes") for p in self.processes) / 1e6

    def stop(self) -> None:
        for process in self.processes:
            process.stop()
        self.redis.kill()


def nice(process: Process) -> None:
    for task in Path(f"/proc/{process.process.pid}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(task.name), 10)


@dataclass
class Seen:
    """What the annotators met: seconds by sort of click, and everything that was no mask."""

    held: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    refused: list[tuple[float, int]] = field(default_factory=list)  # when, status
    wrong: list[str] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    masks: dict[tuple[str, int, int], str] = field(default_factory=dict)

    def answer(
        self, key: tuple[str, int, int], answer: httpx.Response, seconds: float, *, first: bool
    ) -> None:
        if answer.status_code in (429, 503):
            self.refused.append((time.monotonic(), answer.status_code))
            if "retry-after" not in answer.headers:
                self.wrong.append("a refusal without Retry-After")
        elif answer.status_code != 200:
            self.wrong.append(answer.text[:200])
        else:
            (self.first if first else self.held).append(seconds)
            mask = json.dumps(answer.json()["results"][0]["masks"][0]["mask"])
            if self.masks.setdefault(key, mask) != mask:
                self.wrong.append(f"another mask than before for {key}")


class Annotator:
    """Looks at an image, clicks, thinks; always comes to the same replica, as behind an ingress that hashes."""

    def __init__(self, site: Site, seen: Seen, shared: list[str], seed: int) -> None:
        self.site, self.seen, self.shared = site, seen, shared
        self.rng, self.random = np.random.default_rng(seed), random.Random(seed)
        self.client = httpx.AsyncClient(timeout=90)

    async def run(self, until: float) -> None:
        await asyncio.sleep(self.random.uniform(0, THINK_S))
        async with self.client:
            await self.image(until, self.random.randint(1, CLICKS_PER_IMAGE))  # they do not begin in step
            while time.monotonic() < until:
                await self.image(until, CLICKS_PER_IMAGE)

    async def image(self, until: float, clicks: int) -> None:
        server = self.random.choice(self.site.servers).url
        if self.shared and self.random.random() < SHARED:
            image_id = self.random.choice(self.shared)
        else:
            sent = await self.client.post(f"{server}/v1/images", files={"file": picture(self.rng)})
            if sent.status_code != 201:
                self.seen.wrong.append(sent.text[:200])
                return
            image_id = sent.json()["image_id"]
            self.shared[:] = [*self.shared[-7:], image_id]
        self.seen.images.add(image_id)
        for number in range(clicks):
            if time.monotonic() >= until:
                return
            x, y = (int(v) for v in self.rng.integers(0, SIDE, 2) // 32 * 32 + 16)
            body = {"image_id": image_id, "prompts": [{"points": [[x, y]]}]}
            start = time.perf_counter()
            answer = await self.client.post(f"{server}/v1/segment", json=body)
            self.seen.answer((image_id, x, y), answer, time.perf_counter() - start, first=number == 0)
            await asyncio.sleep(self.random.expovariate(1 / THINK_S))


async def annotate(site: Site, seconds: float, disturb: Callable[[], Awaitable[None]] | None = None) -> Seen:
    seen, shared, until = Seen(), list[str](), time.monotonic() + seconds
    disturbing = asyncio.create_task(disturb()) if disturb is not None else None
    await asyncio.gather(*(Annotator(site, seen, shared, next(SEEDS)).run(until) for _ in range(ANNOTATORS)))
    if disturbing is not None:
        disturbing.cancel()
        with suppress(asyncio.CancelledError):
            await disturbing
    return seen


def ms(seconds: list[float], percent: float) -> float:
    return 1000 * float(np.percentile(seconds, percent)) if seconds else float("nan")


def clicks(what: str, seen: Seen) -> list[Line]:
    return [
        Line(f"{what}: clicks on held embeddings, first clicks", f"{len(seen.held)}, {len(seen.first)}"),
        Line(
            f"{what}: held p50, p95, p99", " ".join(f"{ms(seen.held, p):.1f}" for p in (50, 95, 99)) + " ms"
        ),
        Line(
            f"{what}: first p50, p95, p99", " ".join(f"{ms(seen.first, p):.0f}" for p in (50, 95, 99)) + " ms"
        ),
    ]


def nothing(what: str, found: int) -> Line:
    return Line(what, str(found), "0", found == 0)


def steady(site: Site) -> list[Line]:
    asyncio.run(annotate(site, 90))  # until the prepared embeddings have filled their room
    encoded, memory = site.encoded(), site.resident_mb()
    seen = asyncio.run(annotate(site, LOAD_S))
    extra = site.encoded() - encoded - len(seen.images)
    name = f"{ANNOTATORS} annotators, {LOAD_S:.0f} s"
    return [
        *clicks(name, seen),
        nothing(f"{name}: refused requests", len(seen.refused)),
        nothing(f"{name}: failed requests, wrong answers", len(seen.wrong)),
        Line(
            f"{name}: images, encodes beyond one each", f"{len(seen.images)}, {extra:+.0f}", "0", extra == 0
        ),
        at_most(f"{name}: held p99 against p50", ms(seen.held, 99) / ms(seen.held, 50), 4, "x"),
        Line(f"{name}: resident memory of all processes", f"{memory:.0f} -> {site.resident_mb():.0f} MB"),
    ]


def killing(site: Site) -> list[Line]:
    async def disturb() -> None:
        for turn in range(1000):
            await asyncio.sleep(KILL_EVERY_S)
            victim = site.encoders[turn % 2]
            victim.kill()
            await asyncio.sleep(1)
            await asyncio.to_thread(victim.start)
            nice(victim)

    seen = asyncio.run(annotate(site, LOAD_S, disturb))
    name = f"a worker killed every {KILL_EVERY_S:.0f} s, {LOAD_S:.0f} s"
    failed = len(seen.refused) + len(seen.wrong)
    return [*clicks(name, seen), nothing(f"{name}: failed or refused requests", failed)]


def without_redis(site: Site) -> list[Line]:
    gone = back = 0.0

    async def disturb() -> None:
        nonlocal gone, back
        await asyncio.sleep(20)
        gone = time.monotonic()
        site.redis.kill()
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(site.redis.start)
        back = time.monotonic()
        await asyncio.sleep(3600)

    seen = asyncio.run(annotate(site, 60, disturb))
    after = [when - back for when, _ in seen.refused if when > back]
    name = f"Redis away for {AWAY_S:.0f} s"
    return [
        *clicks(name, seen),
        Line(f"{name}: requests refused with 503 and Retry-After", str(len(seen.refused))),
        nothing(f"{name}: other failures, wrong answers", len(seen.wrong)),
        nothing(f"{name}: refusals before it went", sum(when < gone for when, _ in seen.refused)),
        at_most(f"{name}: last refusal after its return", max(after, default=0.0), 5, "s"),
    ]


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[Callable[[bytes], Awaitable[int]]]:
    """The lightest client there is, so that the load is on the service: POSTs a body, answers the status."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def post(body: bytes) -> int:
        head = (
            f"POST /v1/segment HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        return int(answer.split(b" ")[1])

    yield post
    writer.close()


async def open_loop(site: Site, body: bytes, rate: float, seconds: float) -> list[tuple[int, float]]:
    """(status, seconds) of requests that come whether or not those before have been answered."""
    found: list[tuple[int, float]] = []
    async with asyncio.TaskGroup() as group:
        free: asyncio.Queue[Callable[[bytes], Awaitable[int]]] = asyncio.Queue()
        done = asyncio.Event()

        async def keep(url: str) -> None:
            async with connection(url) as post:
                free.put_nowait(post)
                await done.wait()

        async def ask() -> None:
            start = time.perf_counter()
            post = await free.get()
            status = await post(body)
            found.append((status, time.perf_counter() - start))
            free.put_nowait(post)

        for number in range(200):
            group.create_task(keep(site.servers[number % 2].url))
        await asyncio.sleep(0.5)
        start, sent = time.perf_counter(), 0
        asking: list[asyncio.Task[None]] = []
        while (now := time.perf_counter() - start) < seconds:
            while sent < now * rate:
                asking.append(group.create_task(ask()))
                sent += 1
            await asyncio.sleep(0.002)
        await asyncio.gather(*asking)
        done.set()
    return found


def overload(site: Site) -> list[Line]:
    """Clicks on one held image. Capacity: what four clients get who each wait for their answers."""
    image_id = site.servers[0].upload(picture(np.random.default_rng(1)))
    for server in site.servers:
        server.click(image_id, 100, 100)
    body = json.dumps({"image_id": image_id, "prompts": [{"points": [[100, 100]]}]}).encode()

    async def closed(clients: int, seconds: float) -> list[float]:
        times: list[float] = []

        async def one(number: int) -> None:
            async with connection(site.servers[number % 2].url) as post:
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    start = time.perf_counter()
                    assert await post(body) == 200
                    times.append(time.perf_counter() - start)

        await asyncio.gather(*(one(number) for number in range(clients)))
        return times

    alone = asyncio.run(closed(1, 5))
    capacity = len(asyncio.run(closed(4, 5))) / 5
    found = asyncio.run(open_loop(site, body, 5 * capacity, 10))
    accepted = [seconds for status, seconds in found if status == 200]
    shed = [seconds for status, seconds in found if status in (429, 503)]
    after = asyncio.run(closed(1, 3))
    name = "five times capacity"
    return [
        Line("unloaded click p50, p99", f"{ms(alone, 50):.1f} {ms(alone, 99):.1f} ms"),
        Line("capacity", f"{capacity:.0f} clicks/s"),
        Line(f"{name}: accepted, refused", f"{len(accepted)}, {len(shed)}"),
        nothing(f"{name}: other answers", len(found) - len(accepted) - len(shed)),
        at_most(f"{name}: refused within, p99", ms(shed, 99), 50, "ms"),
        at_most(f"{name}: accepted p99 against unloaded", ms(accepted, 99) / ms(alone, 99), 6, "x"),
        at_least(f"{name}: accepted clicks against capacity", len(accepted) / 10 / capacity, 0.5),
        at_most("right after: p50 against unloaded", ms(after, 50) / ms(alone, 50), 1.5, "x"),
    ]


def measure() -> list[Line]:
    lines: list[Line] = []
    parts = os.environ.get("BENCH_LOAD_PARTS", "steady,killing,without_redis,overload").split(",")
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        try:
            for part in parts:
                lines += globals()[part](site)
        except SegserveError as error:
            raise SystemExit(str(error)) from error
        finally:
            site.stop()
    return lines
