"""A deployment under annotators as a simulation of discrete events: cores, queues, what a pod holds, what Redis has.

    annotator: upload -> click, think, click ... -> the next image
    click:  a core of the pod that has the image -> held? -> in Redis? -> an encoder, which takes the images in turn

Cores are what everything waits for. On one machine all processes share them, and the encoders, which are niced, take
what clicks leave. In a cluster every pod has cores of its own.
"""

import random
from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

# Work of low priority gives its core back after so long, where others wait: about what a scheduler allows.
SLICE_S = 0.004
CLICK, ENCODE = 0, 1  # priorities: lower first

Process = Generator[Any, Any, None]


@dataclass(frozen=True)
class Costs:
    """Costs of one model, in CPU seconds of one core, and in bytes.

    click_s: a click on an embedding that is held, all of the service together. client_s: the same at the client, where
    it is on the same cores. upload_s: an upload. fetch_s: to fetch an embedding from Redis and prepare it. encode_s: an
    image, on `encode_cores` cores at once. spread: standard deviation of a service time over its mean.
    """

    click_s: float
    upload_s: float
    fetch_s: float
    encode_s: float
    client_s: float = 0.0
    spread: float = 0.25


@dataclass(frozen=True)
class Shape:
    """Pods and their sizes. shared_cores: all processes share so many; None: each has its own.

    held_images: prepared embeddings that a pod of the API holds. encode_cores: of an encoder, that work on one image.
    """

    apis: int
    api_cores: int
    encoders: int
    encode_cores: int
    held_images: int
    shared_cores: int | None = None


@dataclass(frozen=True)
class Load:
    """Annotators. shared_share: of images, that others have opened before."""

    annotators: int
    think_s: float = 2.0
    clicks_per_image: int = 20
    shared_share: float = 0.2

    @property
    def clicks_per_s(self) -> float:
        return self.annotators / self.think_s

    @property
    def new_images_per_s(self) -> float:
        return self.clicks_per_s / self.clicks_per_image * (1 - self.shared_share)


@dataclass
class Outcome:
    """Seconds of clicks on cached embeddings, and of first clicks; busy shares of the cores of API and encoders."""

    cached: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    api_busy: float = 0.0
    encoder_busy: float = 0.0


class Simulation:
    """`Simulation` runs a load on a shape for a while."""

    def __init__(self, costs: Costs, shape: Shape, load: Load, seed: int = 0) -> None:
        self._costs, self._shape, self._load = costs, shape, load
        self._random = random.Random(seed)
        self._env = simpy.Environment()
        shared = None if shape.shared_cores is None else self._cores(shape.shared_cores)
        self._apis = [shared or self._cores(shape.api_cores) for _ in range(shape.apis)]
        self._slots = [simpy.Resource(self._env, shape.api_cores) for _ in range(shape.apis)]
        self._encoder_cores = [shared or self._cores(shape.encode_cores) for _ in range(shape.encoders)]
        self._encoders = [simpy.Resource(self._env, 1) for _ in range(shape.encoders)]
        self._held: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(shape.apis)]
        self._encoded: dict[int, simpy.Event] = {}
        self._recent: list[int] = []
        self._busy = {CLICK: 0.0, ENCODE: 0.0}
        self._next_image = self._next_encoder = 0
        self._counts_from = 0.0
        self.outcome = Outcome()

    def _cores(self, count: int) -> simpy.PriorityResource:
        return simpy.PriorityResource(self._env, count)

    def run(self, seconds: float, warm_up_s: float) -> Outcome:
        """Simulate. Clicks of the first `warm_up_s` do not count."""
        self._counts_from = warm_up_s
        for _ in range(self._load.annotators):
            self._env.process(self._annotate())
        self._env.run(until=warm_up_s + seconds)
        shape = self._shape
        api_cores = shape.shared_cores or shape.apis * shape.api_cores
        encoder_cores = shape.shared_cores or shape.encoders * shape.encode_cores
        self.outcome.api_busy = self._busy[CLICK] / seconds / api_cores
        self.outcome.encoder_busy = self._busy[ENCODE] / seconds / encoder_cores
        return self.outcome

    def _annotate(self) -> Process:
        load = self._load
        yield self._env.timeout(self._random.uniform(0, load.think_s * load.clicks_per_image))
        while True:
            image = self._pick_shared()
            if image is None:
                image, self._next_image = self._next_image, self._next_image + 1
                yield from self._work(image % self._shape.apis, self._costs.upload_s)
                self._recent = [*self._recent[-7:], image]
            for number in range(load.clicks_per_image):
                start = self._env.now
                yield from self._click(image)
                if start >= self._counts_from:
                    times = self.outcome.first if number == 0 else self.outcome.cached
                    times.append(self._env.now - start)
                yield self._env.timeout(self._random.expovariate(1 / load.think_s))

    def _pick_shared(self) -> int | None:
        is_shared = self._recent and self._random.random() < self._load.shared_share
        return self._random.choice(self._recent) if is_shared else None

    def _click(self, image: int) -> Process:
        """Answer a click on the pod that the image is hashed to."""
        pod = image % self._shape.apis
        held = self._held[pod]
        if image not in held:
            if image not in self._encoded:
                self._encoded[image] = self._env.event()
                self._env.process(self._encode(image))
            yield self._encoded[image]
            yield from self._work(pod, self._costs.fetch_s)
            held[image] = None
            if len(held) > self._shape.held_images:
                held.popitem(last=False)
        held.move_to_end(image)
        yield from self._work(pod, self._costs.click_s + self._costs.client_s)

    def _work(self, pod: int, mean_s: float) -> Process:
        with self._slots[pod].request() as slot:
            yield slot
            with self._apis[pod].request(CLICK) as core:
                yield core
                seconds = self._draw(mean_s)
                self._count(CLICK, seconds)
                yield self._env.timeout(seconds)

    def _encode(self, image: int) -> Process:
        """Encode on the next encoder, as gRPC's round robin does, in slices that let clicks go first."""
        number, self._next_encoder = self._next_encoder, (self._next_encoder + 1) % self._shape.encoders
        with self._encoders[number].request() as turn:
            yield turn
            left = self._draw(self._costs.encode_s)
            self._count(ENCODE, left * self._shape.encode_cores)
            is_shared = self._shape.shared_cores is not None
            while left > 0:
                step = min(left, SLICE_S) if is_shared else left
                left -= step
                if is_shared:
                    with self._encoder_cores[number].request(ENCODE) as core:
                        yield core
                        yield self._env.timeout(step)
                else:
                    yield self._env.timeout(step)
        self._encoded[image].succeed()

    def _count(self, priority: int, core_s: float) -> None:
        """Count cores as busy, once the warm-up is over."""
        if self._env.now >= self._counts_from:
            self._busy[priority] += core_s

    def _draw(self, mean_s: float) -> float:
        """Return a service time: gamma, whose tail is longer than its head, as measured ones are."""
        shape = 1 / self._costs.spread**2
        return self._random.gammavariate(shape, mean_s / shape) if mean_s else 0.0
