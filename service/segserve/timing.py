"""How long each stage of a request takes, for the Server-Timing header and the metrics."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with (stage, seconds).
ObserveStage = Callable[[str, float], None]


class Timings:
    """`Timings` adds up seconds by stage, in order of first use.

    observe: called each time a stage ends, with the seconds of that time alone.

    encoder_s: seconds that an encoder ran for this request. Of images that were encoded together each has its share,
    unlike in the stage "encode", which is how long the request waited for all of them.
    """

    def __init__(self, observe: ObserveStage = lambda stage, seconds: None) -> None:
        self.seconds: dict[str, float] = {}
        self.encoder_s = 0.0
        self._observe = observe

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block, and add it to the stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self._observe(name, seconds)

    def server_timing(self) -> str:
        """Return the value of a Server-Timing header, in milliseconds."""
        return ", ".join(f"{name};dur={1000 * s:.2f}" for name, s in self.seconds.items())
