"""`python -m tests.fuzz`: divide the time among the targets, run them, and report.

Two lanes run at the same time: mutators against the service, one after another, and coverage-guided harnesses. The exit
status is 1 if there are findings.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.coverage_lane import CoverageLane
from tests.fuzz.harnesses.all_harnesses import HARNESSES
from tests.fuzz.replay import replay
from tests.fuzz.report import Report
from tests.fuzz.service_lane import SHARES, ServiceLane

# The targets against the service take turns; a turn of all of them takes about so long.
ROUND_S = 600
# Caches are full and pools are grown after this part of the time.
WARM_PART = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description="Fuzz the readers and a real service.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join([*SHARES, *HARNESSES])}")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument(
        "--seed", type=int, default=None, help="of the mutators; another one each time if left out"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parent / "runs", help="of corpus and findings"
    )
    parser.add_argument(
        "--replay", nargs="+", type=Path, metavar="FILE", help="run files of findings, and nothing else"
    )
    options = parser.parse_args()
    if options.replay:
        return not replay(options.replay)
    if unknown := set(options.targets) - {*SHARES, *HARNESSES}:
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    seed = options.seed if options.seed is not None else random.randrange(1 << 30)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    report = Report(options.folder / f"findings-{stamp}")
    print(f"{options.minutes:g} minutes, seed {seed}, findings in {report.folder}", flush=True)
    run(options.targets or [*SHARES, *HARNESSES], 60 * options.minutes, seed, options.folder, report)
    report.print()
    return bool(report.findings)


def run(targets: Sequence[str], seconds: float, seed: int, folder: Path, report: Report) -> None:
    """Run both lanes for a time."""
    start = time.monotonic()
    names = [name for name in targets if name in HARNESSES]
    coverage = threading.Thread(target=CoverageLane(folder, report).run, args=(names, start + seconds))
    coverage.start()
    if shares := {name: share for name, share in SHARES.items() if name in targets}:
        run_service_lane(shares, start, seconds, seed, report)
    coverage.join()


def run_service_lane(shares: dict[str, int], start: float, seconds: float, seed: int, report: Report) -> None:
    """Run mutators in turns. shares: of the time, by name."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as data_dir:
        lane = ServiceLane(Path(data_dir), report, seed)
        try:
            rounds = max(1, round(seconds / ROUND_S))
            for number in range(rounds):
                round_end = start + seconds * (number + 1) / rounds
                waiting = dict(shares)
                for name, share in shares.items():
                    left_s = round_end - time.monotonic()
                    lane.run(name, max(1.0, left_s * share / sum(waiting.values())))
                    del waiting[name]
        finally:
            lane.close(start + WARM_PART * seconds)


if __name__ == "__main__":
    sys.exit(main())
