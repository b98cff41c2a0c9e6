"""Simulated clients of the load benchmark: annotators who click and think, and loops of raw requests."""

import asyncio
import io
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx
import numpy as np
from PIL import Image
from tests.drawn_discs import draw_discs
from tests.serving import Server

from bench import real_weights

ANNOTATORS = 32
THINK_S = 2.0  # mean time between clicks
CLICKS_PER_IMAGE = 20
SHARED_SHARE = 0.2  # of the images that several annotators open
CONNECTIONS = 200  # of the open loop
REFUSED = (429, 503)
REFUSED_PAUSE_S = 0.1
IMAGE_PX = 256  # the edge
SEEDS = itertools.count()  # each annotator has new images

Disturb = Callable[[], Awaitable[None]]
Post = Callable[[bytes], Awaitable[tuple[int, bytes]]]  # -> status, body


def draw_image(rng: np.random.Generator) -> bytes:
    """Return a PNG, another one each time: a part of a photograph, or for the starter bright discs on dark noise."""
    if real_weights.uses_real_weights():
        photograph, file = real_weights.read_photograph(), io.BytesIO()
        top, left = (int(rng.integers(0, edge - IMAGE_PX)) for edge in photograph.shape[:2])
        part = photograph[top : top + IMAGE_PX, left : left + IMAGE_PX]
        Image.fromarray(part).save(file, "PNG")
        return file.getvalue()
    return draw_discs(rng, IMAGE_PX)


@dataclass
class Observations:
    """The annotators' results.

    cached, first: seconds of clicks on cached embeddings, and of first clicks on an image.
    refused: (time, status) of refusals. errors: texts of failures and wrong answers.
    """

    cached: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    refused: list[tuple[float, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    masks: dict[tuple[str, int, int], str] = field(default_factory=dict)

    def record(
        self, key: tuple[str, int, int], response: httpx.Response, seconds: float, *, first: bool
    ) -> None:
        """Record a response to a click. key: image id and click; the same key must always give the same mask."""
        if response.status_code in REFUSED:
            self.refused.append((time.monotonic(), response.status_code))
            if "retry-after" not in response.headers:
                self.errors.append("a refusal without Retry-After")
        elif response.status_code != 200:
            self.errors.append(response.text[:200])
        else:
            (self.first if first else self.cached).append(seconds)
            mask = json.dumps(response.json()["results"][0]["masks"][0]["mask"])
            if self.masks.setdefault(key, mask) != mask:
                self.errors.append(f"a different mask than before for {key}")


class Annotator:
    """`Annotator` opens an image, clicks and thinks. An image stays on one replica, as behind a hashing ingress.

    shared: ids of images that several annotators open; each annotator adds its own.
    """

    def __init__(
        self, servers: list[Server], observations: Observations, shared: list[str], seed: int
    ) -> None:
        self.servers, self.observations, self.shared = servers, observations, shared
        self.rng, self.random = np.random.default_rng(seed), random.Random(seed)
        self.client = httpx.AsyncClient(timeout=90)

    async def run(self, until: float) -> None:
        await asyncio.sleep(self.random.uniform(0, THINK_S))
        async with self.client:
            # A random number of clicks first, so that annotators do not change images in step.
            await self.annotate_image(until, self.random.randint(1, CLICKS_PER_IMAGE))
            while time.monotonic() < until:
                await self.annotate_image(until, CLICKS_PER_IMAGE)

    async def annotate_image(self, until: float, clicks: int) -> None:
        server = self.random.choice(self.servers).url
        if self.shared and self.random.random() < SHARED_SHARE:
            image_id = self.random.choice(self.shared)
        else:
            upload = await self.client.post(f"{server}/v1/images", files={"file": draw_image(self.rng)})
            if upload.status_code != 201:
                self.observations.errors.append(upload.text[:200])
                return
            image_id = upload.json()["image_id"]
            self.shared[:] = [*self.shared[-7:], image_id]
        self.observations.images.add(image_id)
        for number in range(clicks):
            if time.monotonic() >= until:
                return
            x, y = (int(v) for v in self.rng.integers(0, IMAGE_PX, 2) // 32 * 32 + 16)
            body = {"image_id": image_id, "prompts": [{"points": [[x, y]]}]}
            start = time.perf_counter()
            response = await self.client.post(f"{server}/v1/segment", json=body)
            self.observations.record(
                (image_id, x, y), response, time.perf_counter() - start, first=number == 0
            )
            await asyncio.sleep(self.random.expovariate(1 / THINK_S))


async def annotate(servers: list[Server], seconds: float, disturb: Disturb | None = None) -> Observations:
    """Run all annotators for some seconds. disturb: runs beside them until they end."""
    observations, shared, until = Observations(), list[str](), time.monotonic() + seconds
    disturbance = asyncio.create_task(disturb()) if disturb is not None else None
    annotators = [Annotator(servers, observations, shared, next(SEEDS)) for _ in range(ANNOTATORS)]
    await asyncio.gather(*(annotator.run(until) for annotator in annotators))
    if disturbance is not None:
        disturbance.cancel()
        with suppress(asyncio.CancelledError):
            await disturbance
    return observations


@asynccontextmanager
async def connect(url: str, address: str | None = None) -> AsyncIterator[Post]:
    """Open a connection, and yield a function that POSTs a click and returns the status and the body.

    The client is minimal, so that the load is on the service. address: of loopback, from which the client comes; each
    is a client of its own.
    """
    host, port = url.removeprefix("http://").split(":")
    local_address = None if address is None else (address, 0)
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=local_address)

    async def post(body: bytes) -> tuple[int, bytes]:
        head = (
            f"POST /v1/segment HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        head_bytes = await reader.readuntil(b"\r\n\r\n")
        length = int(head_bytes.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head_bytes.split(b" ")[1]), await reader.readexactly(length)

    yield post
    writer.close()


async def open_loop(
    servers: list[Server], body: bytes, rate: float, seconds: float
) -> list[tuple[int, float]]:
    """Return (status, seconds) of requests at a fixed rate, whether or not earlier ones have been answered."""
    results: list[tuple[int, float]] = []
    async with asyncio.TaskGroup() as group:
        free: asyncio.Queue[Post] = asyncio.Queue()
        done = asyncio.Event()

        async def keep_connection(url: str) -> None:
            async with connect(url) as post:
                free.put_nowait(post)
                await done.wait()

        async def send_request() -> None:
            start = time.perf_counter()
            post = await free.get()
            status, _ = await post(body)
            results.append((status, time.perf_counter() - start))
            free.put_nowait(post)

        for number in range(CONNECTIONS):
            group.create_task(keep_connection(servers[number % 2].url))
        await asyncio.sleep(0.5)
        start, sent = time.perf_counter(), 0
        requests: list[asyncio.Task[None]] = []
        while (now := time.perf_counter() - start) < seconds:
            while sent < now * rate:
                requests.append(group.create_task(send_request()))
                sent += 1
            await asyncio.sleep(0.002)
        await asyncio.gather(*requests)
        done.set()
    return results


async def closed_loop(servers: list[Server], body: bytes, clients: int, seconds: float) -> list[float]:
    """Return the seconds of each click of clients that wait for their answers. A refused one counts as none."""
    times: list[float] = []

    async def run_client(number: int) -> None:
        async with connect(servers[number % 2].url) as post:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                start = time.perf_counter()
                status, _ = await post(body)
                if status in REFUSED:  # the machine is slower than the service expects of clients
                    await asyncio.sleep(REFUSED_PAUSE_S)
                    continue
                assert status == 200, status
                times.append(time.perf_counter() - start)

    await asyncio.gather(*(run_client(number) for number in range(clients)))
    return times
