"""A process that runs one harness under atheris, which mutates inputs towards code that was not reached yet.

    python -m tests.fuzz.coverage_process MODULE NAME SECONDS CORPUS FINDINGS

MODULE: of `harnesses/`, in which the harness NAME is. Only what it imports is instrumented, which takes seconds.
CORPUS keeps what reached new code, for the next run. An exception is written to FINDINGS and the run goes on; it is
counted once by where it was raised. A crash of the process, or an input that takes longer than MAX_INPUT_S, ends the
run; libFuzzer then writes the input to FINDINGS too.
"""

import importlib
import logging
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["segserve", "PIL", "tifffile"]):
    module = importlib.import_module(f"tests.fuzz.harnesses.{sys.argv[1]}")

from tests.fuzz.executions import create_counter
from tests.fuzz.finding import describe_exception
from tests.fuzz.harnesses.harness import Harness

# Two orders of magnitude above what any seed takes on a busy machine.
MAX_INPUT_S = 20
MAX_MEMORY_MB = 3000


def run_coverage_guided(harness: Harness, seconds: int, corpus: Path, findings: Path) -> None:
    """Fuzz for a time. Ends the process."""
    known = set[tuple[str, str, str]]()
    executions = create_counter(corpus)

    def try_input(data: bytes) -> None:
        executions[0] += 1
        try:
            harness.run(data)
        except Exception as error:
            finding = describe_exception(harness.name, data, error)
            if finding.key not in known:
                known.add(finding.key)
                print(f"finding: {finding.write(findings)}", flush=True)

    options = [f"-max_total_time={seconds}", f"-max_len={harness.max_bytes}", f"-timeout={MAX_INPUT_S}"]
    options += [
        f"-rss_limit_mb={MAX_MEMORY_MB}",
        f"-artifact_prefix={findings / harness.name}/",
        "-verbosity=0",
    ]
    options += ["-print_final_stats=1"]
    if harness.words:
        options.append(f"-dict={write_words(harness, corpus.parent)}")
    atheris.Setup([sys.argv[0], *options, str(corpus)], try_input)
    atheris.Fuzz()


def write_words(harness: Harness, folder: Path) -> Path:
    """Write the harness's words as a dictionary of libFuzzer."""
    path = folder / f"{harness.name}.dict"
    words = ("".join(f"\\x{byte:02x}" for byte in word) for word in harness.words)
    path.write_text("".join(f'"{word}"\n' for word in words))
    return path


def main() -> None:
    name, seconds, corpus, findings = sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5])
    harness: Harness = next(each for each in module.HARNESSES if each.name == name)
    logging.disable(logging.CRITICAL)
    for folder in (corpus, findings / name):
        folder.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(harness.seeds()):
        (corpus / f"seed-{index}").write_bytes(seed)
    run_coverage_guided(harness, seconds, corpus, findings)


if __name__ == "__main__":
    main()
