"""Run the files of findings again."""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tests.fuzz.harnesses.all_harnesses import HARNESSES
from tests.fuzz.service import FuzzedService, start_service
from tests.fuzz.service_lane import MUTATORS
from tests.fuzz.watch import Watch


def replay(paths: Sequence[Path]) -> bool:
    """Run each file by the target that its folder is named after, and print what happens. Return whether all pass."""
    service: FuzzedService | None = None
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            try:
                if path.parent.name in HARNESSES:
                    HARNESSES[path.parent.name].run(path.read_bytes())
                    print(f"{path}: passes")
                else:
                    service = service or start_service(Path(folder))
                    print(f"{path}: {replay_mutated(path, service)}")
            except Exception as error:
                failed += 1
                print(f"{path}: {type(error).__name__}: {error}\n{getattr(error, 'detail', '')}")
        if service is not None:
            service.stop()
    return not failed


def replay_mutated(path: Path, service: FuzzedService) -> str:
    """Run the file of a mutator's finding. Return what became of it. Raises Broken."""
    watch = Watch(service.url, service.process.pid, service.log)
    with closing(watch), closing(MUTATORS[path.parent.name]()) as mutator:
        outcome = mutator.run(path.read_bytes(), service)
        watch.check_log()
        watch.check_alive()
        return f"{outcome}; {watch.describe_livez()}"
