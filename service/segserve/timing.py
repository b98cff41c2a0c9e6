"""How long each stage of a request took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Observe = Callable[[str, float], None]


class Timings:
    """Seconds by stage, in order of first use; a stage entered twice adds up. `observe` hears each."""

    def __init__(self, observe: Observe = lambda stage, seconds: None) -> None:
        self.seconds: dict[str, float] = {}
        self._observe = observe

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self._observe(name, seconds)

    def server_timing(self) -> str:
        """As a Server-Timing header, in milliseconds."""
        return ", ".join(f"{name};dur={1000 * s:.2f}" for name, s in self.seconds.items())
