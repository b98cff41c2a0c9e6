"""The service under test: a real process, and the memory of it and all its children."""

import threading
from pathlib import Path

import psutil

from tests.serving import ServerStartedAnew

SAMPLE_S = 0.1
# Embeddings that the service keeps: few, so that the memory is that of reading files.
PREPARED_MB = 32
MB = 1_000_000
# Longer than any request should take: a hang is told from slowness.
REQUEST_TIMEOUT_S = 180


class WatchedServer:
    """`WatchedServer` starts a service and samples its memory until it is stopped.

    peak_mb: the most that the service and its readers held at once, above what they held when it was ready. Pages
    that processes share count once (PSS).
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.restarts = 0
        self.peak_mb = self.start_mb = self.recent_peak_mb = 0.0
        self._start()
        self._stopped = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="memory", daemon=True)
        self._sampler.start()

    def _start(self) -> None:
        # The memory of all its children is measured.
        self.server = ServerStartedAnew(self._data_dir, prepared_mb=str(PREPARED_MB))
        self.server.wait_ready()
        self.server.client.timeout = REQUEST_TIMEOUT_S
        self.client = self.server.client
        self._process = psutil.Process(self.server.process.pid)
        if not self.start_mb:
            self.start_mb = self._measure_mb()

    def _measure_mb(self) -> float:
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                if "redis" not in process.name() and "valkey" not in process.name():
                    total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return total / MB

    def _sample(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            try:
                held = self._measure_mb() - self.start_mb
            except psutil.NoSuchProcess:
                continue
            self.peak_mb, self.recent_peak_mb = max(self.peak_mb, held), max(self.recent_peak_mb, held)

    def take_recent_peak(self) -> float:
        """Return the most since the last call, in MB above the start."""
        recent, self.recent_peak_mb = self.recent_peak_mb, 0.0
        return recent

    def is_alive(self) -> bool:
        return self.server.process.poll() is None

    def restart(self) -> None:
        """Start the service again, after it died."""
        self.restarts += 1
        self._start()

    def stop(self) -> None:
        self._stopped.set()
        self._sampler.join()
        self.server.stop()
