"""Run mutators against a service, one input after another, and look at the service after each."""

import random
import time
from contextlib import closing
from pathlib import Path

from tests.fuzz.broken import Broken
from tests.fuzz.finding import Finding, describe_exception
from tests.fuzz.mutators.grpc_calls import GrpcMutator
from tests.fuzz.mutators.http_requests import HttpMutator
from tests.fuzz.mutators.mutator import Mutator
from tests.fuzz.mutators.native_files import NativeFiles
from tests.fuzz.mutators.native_pictures import NativePictures
from tests.fuzz.mutators.uploads import FileUploads, ImageUploads
from tests.fuzz.report import Report
from tests.fuzz.schema import run_schemathesis
from tests.fuzz.service import start_service
from tests.fuzz.watch import MAX_LIVEZ_S, MAX_MEMORY_GROWTH, Watch

MUTATORS: dict[str, type[Mutator]] = {
    each.name: each
    for each in (HttpMutator, GrpcMutator, ImageUploads, FileUploads, NativeFiles, NativePictures)
}
SCHEMA = "schema"
# Shares of the time against the service.
SHARES = {"http": 3, "grpc": 2, "images": 2, "files": 2, "native": 2, "native_pictures": 1, SCHEMA: 2}
# What requests name is stored again every so many inputs.
REFILL_EVERY = 50
# So many inputs before the one that ended the service are kept too: it may not be the only cause.
REMEMBERED = 30
# An input during which /livez was late is repeated alone, so many times.
REPEATS = 3
QUIET_TIMEOUT_S = 20.0
# Before memory is read for the last time.
SETTLE_S = 12.0


class ServiceLane:
    """`ServiceLane` runs mutators against a service, and starts another one when it has ended."""

    def __init__(self, folder: Path, report: Report, seed: int) -> None:
        self._folder, self._report, self._rng = folder, report, random.Random(seed)
        self._recent: list[tuple[str, bytes]] = []
        self._suspects = 0
        self._start()

    def _start(self) -> None:
        self.service = start_service(self._folder)
        self.watch = Watch(self.service.url, self.service.process.pid, self.service.log)

    def run(self, target: str, seconds: float) -> None:
        """Fuzz one target for a time."""
        start = time.monotonic()
        if target == SCHEMA:
            self._run_schema(seconds)
        else:
            with closing(MUTATORS[target]()) as mutator:
                self._run_mutator(mutator, start + seconds)
        self._check_children(target)
        self._report.seconds[target] += time.monotonic() - start

    def _run_mutator(self, mutator: Mutator, end: float) -> None:
        inputs = 0
        while time.monotonic() < end:
            inputs += 1
            try:
                data = mutator.make(self._rng)
            except Exception as error:  # a fault of the mutator does not end the run
                self._report.count(mutator.name, f"not made: {type(error).__name__}")
                continue
            self.try_input(mutator, data)
            if inputs % REFILL_EVERY == 0:
                self._refill()

    def _run_schema(self, seconds: float) -> None:
        try:
            self._report.count(SCHEMA, run_schemathesis(self.service, self._rng.randrange(1 << 30), seconds))
            self.watch.check_log()
        except Broken as broken:
            self._report.add(
                Finding(SCHEMA, broken.kind, broken.signature, broken.detail.encode(), broken.detail)
            )
        if self.service.process.poll() is not None:
            self._on_death(SCHEMA, b"")
        self._refill()

    def try_input(self, mutator: Mutator, data: bytes) -> None:
        """Run an input, and look at the service afterwards."""
        self._recent = [*self._recent[1 - REMEMBERED :], (mutator.name, data)]
        start = time.monotonic()
        try:
            self._report.count(mutator.name, mutator.run(data, self.service))
            self.watch.check_log()
            self.watch.check_alive()
        except Broken as broken:
            self._add(mutator, broken.kind, broken.signature, data, broken.detail)
        except Exception as error:
            if self.service.process.poll() is None:
                self._report.add(describe_exception(mutator.name, data, error))
        if self.service.process.poll() is not None:
            self._on_death(mutator.name, data)
            return
        slowest = self.watch.slowest_since(start)
        if slowest is not None and slowest.own_s > MAX_LIVEZ_S:
            self._repeat_slow(mutator, data)

    def _add(self, mutator: Mutator, kind: str, signature: str, data: bytes, detail: str) -> None:
        self._report.add(Finding(mutator.name, kind, signature, data, detail))

    def _on_death(self, target: str, data: bytes) -> None:
        """Write what ended the service, and start another. The inputs before it are kept too."""
        log = self.service.log.read_text(errors="replace")[-8000:]
        code = self.service.process.returncode
        self._report.add(Finding(target, "died", f"exit {code} after {target}", data, log))
        for index, (name, before) in enumerate(self._recent):
            path = self._report.folder / "before-death" / f"{time.time():.0f}-{index:02}-{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(before)
        self.watch.close()
        self._check_orphans()
        self._start()

    def _repeat_slow(self, mutator: Mutator, data: bytes) -> None:
        """Repeat an input during which /livez was late, alone. It is a finding if it is late every time."""
        self._suspects += 1
        delays = []
        for _ in range(REPEATS):
            self._wait_quiet()
            start = time.monotonic()
            try:
                mutator.run(data, self.service)
            except Exception:
                return  # what it is was written already
            time.sleep(0.1)
            slowest = self.watch.slowest_since(start)
            if slowest is None or slowest.own_s <= MAX_LIVEZ_S:
                return
            delays.append(round(1000 * slowest.own_s))
        self._add(
            mutator, "livez", f"/livez waits {min(delays)} ms", data, f"each of {REPEATS} times: {delays} ms"
        )

    def _wait_quiet(self) -> None:
        """Wait until /livez is answered quickly again."""
        deadline = time.monotonic() + QUIET_TIMEOUT_S
        while time.monotonic() < deadline:
            start = time.monotonic()
            time.sleep(0.3)
            slowest = self.watch.slowest_since(start)
            if slowest is not None and slowest.own_s < MAX_LIVEZ_S / 2:
                return

    def _refill(self) -> None:
        """Store what requests name again: inputs may have deleted it."""
        try:
            self.service.fill()
        except Exception as error:
            if self.service.process.poll() is None:
                self._report.notes.append(f"refill: {type(error).__name__}: {str(error)[:300]}")
                time.sleep(1)

    def _check_children(self, target: str) -> None:
        if left := self.watch.find_left_children():
            detail = "\n".join(left)
            self._report.add(
                Finding(
                    target, "child", "a process is left", self._recent[-1][1] if self._recent else b"", detail
                )
            )

    def _check_orphans(self) -> None:
        if left := self.watch.find_orphans():
            self._report.add(
                Finding("service", "child", "processes outlive the service", b"", "\n".join(left))
            )

    def close(self, warm_until: float) -> None:
        """Stop the service, and report what was watched."""
        time.sleep(SETTLE_S)
        self._report.notes.append(self.watch.describe_livez())
        self._report.notes.append(f"late answers to /livez that were repeated alone: {self._suspects}")
        for label, (warm, highest, last) in sorted(self.watch.memory_growth(warm_until).items()):
            self._report.notes.append(
                f"memory of {label}: warm {warm} MB, highest {highest} MB, at the end {last} MB"
            )
            if last > MAX_MEMORY_GROWTH * warm:
                self._report.add(
                    Finding("service", "memory", f"{label.split()[0]} has grown", b"", f"{warm} to {last} MB")
                )
        self._check_children("service")
        if (status := self.service.stop()) != 0:
            log = self.service.log.read_text(errors="replace")[-8000:]
            self._report.add(Finding("service", "died", f"it stops with {status}", b"", log))
        self.watch.close()
        self._check_orphans()
