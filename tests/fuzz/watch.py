"""Watch a service while it is fuzzed: its answers to /livez, its memory, its processes and its log."""

import http.client
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

from segserve.files.frame_reader import KEEP_OPEN_S
from tests.fuzz.broken import Broken
from tests.fuzz.processes import ProcessId, list_descendants, read_stat

PROBE_INTERVAL_S = 0.02
PROBE_TIMEOUT_S = 30.0
MAX_LIVEZ_S = 0.1
MEMORY_INTERVAL_S = 1.0
MAX_MEMORY_GROWTH = 1.2
# Readers of files end within milliseconds, on a busy machine later; a file that is looked at keeps its reader.
CHILD_GRACE_S = KEEP_OPEN_S + 10.0
# What is never in a log that is well: exceptions that nobody caught.
FAULTS = re.compile(
    r"internal error|Traceback \(most recent|never retrieved|never awaited|Exception in callback|Fatal Python error"
)
LOG_PLACE = re.compile(r'segserve/([\w/]+\.py)", line (\d+)')
LOG_ERROR = re.compile(r"^\s*(\w+(?:\.\w+)*(?:Error|Exception|Warning)\b.*)$", re.MULTILINE)
MB = 1 << 20
FORK_SERVER = "segserve.sandbox.fork_server"


@dataclass(frozen=True)
class Probe:
    """`Probe` is one request to /livez. waited_s: of its time, how long the service had no core, nor we."""

    start: float
    seconds: float
    waited_s: float

    @property
    def own_s(self) -> float:
        """Return the time that is the service's own fault, on a machine that others use too."""
        return max(0.0, self.seconds - self.waited_s)


@dataclass
class Watch:
    """`Watch` observes a service from threads.

    url, pid, log: of the service. memory: (time, bytes) of each process that stays, by its command.
    """

    url: str
    pid: int
    log: Path
    probes: list[Probe] = field(default_factory=list)
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    seen: set[ProcessId] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._ending = threading.Event()
        self._log_read = self.log.stat().st_size
        found = read_stat(self.pid)
        assert found is not None, "the service has ended"
        self._service = found[0]
        below = list_descendants(self.pid)
        self._residents = {found[0], *(process for process in below if not is_forked_reader(process))}
        self._labels = {process: label_process(process) for process in self._residents} | {
            found[0]: "service"
        }
        self._resident_commands = Counter(process.command() for process in below)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._probe, self._measure)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    # /livez.

    def _probe(self) -> None:
        address = urlsplit(self.url)
        connection: http.client.HTTPConnection | None = None
        own = ProcessId(threading.get_native_id(), 0)
        while not self._ending.wait(PROBE_INTERVAL_S):
            start, waited = time.monotonic(), self._service.waited_s() + own.waited_s()
            try:
                connection = connection or http.client.HTTPConnection(
                    str(address.hostname), address.port, timeout=PROBE_TIMEOUT_S
                )
                connection.request("GET", "/livez")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                if connection is not None:
                    connection.close()
                connection = None
                if time.monotonic() - start < PROBE_TIMEOUT_S:
                    continue  # an idle connection was closed, or the service has ended
            waited = self._service.waited_s() + own.waited_s() - waited
            self.probes.append(Probe(start, time.monotonic() - start, waited))
        if connection is not None:
            connection.close()

    def slowest_since(self, start: float) -> Probe | None:
        """Return the probe that took longest by the service's own fault, of those that ended after `start`."""
        recent = []
        for probe in reversed(self.probes):
            if probe.start + probe.seconds < start:
                break
            recent.append(probe)
        return max(recent, key=lambda probe: probe.own_s, default=None)

    # Memory and processes.

    def _measure(self) -> None:
        while not self._ending.wait(MEMORY_INTERVAL_S):
            self.seen.update(list_descendants(self.pid))
            for process in list(self._residents):
                if resident := process.resident_bytes():
                    self.memory.setdefault(self._labels[process], []).append((time.monotonic(), resident))

    def find_left_children(self, grace_s: float = CHILD_GRACE_S) -> list[str]:
        """Return the commands of processes that were started for requests and are still there after a while."""
        deadline = time.monotonic() + grace_s
        while True:
            count = Counter(process.command() for process in list_descendants(self.pid))
            count.subtract(self._resident_commands)
            left = [command for command, more in count.items() if more > 0]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.2)

    def find_orphans(self) -> list[str]:
        """Return the commands of processes that outlive the service."""
        deadline = time.monotonic() + CHILD_GRACE_S
        while True:
            alive = [p for p in self.seen if (now := read_stat(p.pid)) is not None and now[0] == p]
            if not alive or time.monotonic() > deadline:
                return [process.command() for process in alive]
            time.sleep(0.2)

    def memory_growth(self, warm_until: float) -> dict[str, tuple[int, int, int]]:
        """Return (warmed-up level, maximum after it, level at the end) in MB of each process.

        The warmed-up level is the highest until `warm_until`, the end is the median of the last ten measurements.
        """
        growth = {}
        for label, samples in self.memory.items():
            warm = [size for at, size in samples if at <= warm_until]
            later = [size for at, size in samples if at > warm_until]
            if warm and later:
                last = sorted(later[-10:])[len(later[-10:]) // 2]
                growth[label] = (max(warm) // MB, max(later) // MB, last // MB)
        return growth

    # The log.

    def check_log(self) -> None:
        """Raise Broken where the log has a fault since the last call."""
        with self.log.open("rb") as file:
            file.seek(self._log_read)
            text = file.read().decode("utf-8", "replace")
            self._log_read = file.tell()
        if FAULTS.search(text):
            places, errors = LOG_PLACE.findall(text), LOG_ERROR.findall(text)
            place = ":".join(places[-1]) if places else "?"
            raise Broken("log", f"{errors[-1][:80] if errors else 'fault'} in {place}", text)

    def check_alive(self) -> None:
        """Raise Broken where the service has ended, or its worker, or what forks readers of files. Once for each."""
        for process in list(self._residents):
            found = read_stat(process.pid)
            if found is None or found[0] != process:
                self._residents.discard(process)
                name = self._labels.get(process, "a process")
                raise Broken("died", f"{name} has ended", self.log.read_text(errors="replace")[-8000:])

    def describe_livez(self) -> str:
        """Return a line about all probes."""
        times = [1000 * probe.seconds for probe in self.probes]
        own = [1000 * probe.own_s for probe in self.probes]
        if len(times) < 2:
            return "livez: not probed"
        percentiles = quantiles(times, n=100)
        return (
            f"livez: {len(times)} probes, p50 {percentiles[49]:.1f} ms, p99 {percentiles[98]:.1f} ms,"
            f" max {max(times):.0f} ms; over 100 ms: {sum(t > 100 for t in times)}, of them without waiting for a core:"
            f" {sum(t > 100 for t in own)} (max {max(own):.0f} ms)"
        )


def is_forked_reader(process: ProcessId) -> bool:
    """Return whether a fork server has forked the process, to wait for a file."""
    found = read_stat(process.pid)
    parent = None if found is None else read_stat(found[1])
    return parent is not None and FORK_SERVER in parent[0].command()


def label_process(process: ProcessId) -> str:
    command = process.command()
    name = next((name for name in ("worker", FORK_SERVER) if name in command.split()), command[:40])
    return f"{name.rpartition('.')[2]} {process.pid}"
