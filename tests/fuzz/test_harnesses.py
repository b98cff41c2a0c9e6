"""Every reader of our own keeps its promises on seeds, on thousands of damaged ones, and on what once broke it."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from segserve.errors import BadInput
from tests.fuzz.finding import Finding, describe_exception
from tests.fuzz.harnesses.all_harnesses import HARNESSES
from tests.fuzz.harnesses.harness import Harness, expect_refusals, scratch_folder
from tests.fuzz.mutate import mutate

REGRESSIONS = Path(__file__).parent / "regressions"
DAMAGED_INPUTS = 100

every_harness = pytest.mark.parametrize("harness", HARNESSES.values(), ids=lambda harness: harness.name)


def list_regressions() -> list[Path]:
    return sorted(path for name in HARNESSES for path in (REGRESSIONS / name).glob("*"))


@every_harness
def test_seeds(harness: Harness) -> None:
    for seed in harness.seeds():
        assert len(seed) <= harness.max_bytes
        harness.run(seed)
    for odd in (b"", b"\0", b"\xff" * 9, bytes(400)):
        harness.run(odd)


@every_harness
def test_damaged_seeds(harness: Harness) -> None:
    rng, seeds = random.Random(harness.name), list(harness.seeds())
    for _ in range(DAMAGED_INPUTS):
        data = mutate(rng, rng.choice(seeds), seeds)
        try:
            harness.run(data)
        except Exception as error:
            pytest.fail(f"{data!r}\n{describe_exception(harness.name, data, error).detail}")


@pytest.mark.parametrize("path", list_regressions(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_inputs_that_once_failed(path: Path) -> None:
    HARNESSES[path.parent.name].run(path.read_bytes())


def test_a_refusal_without_a_remedy_is_a_finding() -> None:
    with pytest.raises(AssertionError), expect_refusals():
        raise BadInput("It is bad.", remedy="", field="file")


def test_a_refusal_with_a_path_is_a_finding() -> None:
    with pytest.raises(AssertionError), expect_refusals():
        raise BadInput(f"{scratch_folder()}/x is bad.", remedy="Mend it.", field="file")


def test_a_finding_is_a_file_that_repeats_it(tmp_path: Path) -> None:
    try:
        raise ZeroDivisionError("of zero")
    except ZeroDivisionError as error:
        finding = describe_exception("rle", b"\0input", error)
    path = finding.write(tmp_path)
    assert path.parent == tmp_path / "rle"
    assert path.read_bytes() == b"\0input"
    assert "of zero" in path.with_suffix(".txt").read_text()


def test_one_fault_is_one_finding() -> None:
    def find(data: bytes) -> Finding:
        try:
            raise KeyError(data)
        except KeyError as error:
            return describe_exception("rle", data, error)

    assert find(b"a").key == find(b"b").key
    assert find(b"a") != find(b"b")


def test_the_same_seed_makes_the_same_changes() -> None:
    data = bytes(range(256))
    assert mutate(random.Random(3), data, [b"xyz"]) == mutate(random.Random(3), data, [b"xyz"])
    assert len({mutate(random.Random(seed), data) for seed in range(50)}) > 45


def test_coverage_guided(tmp_path: Path) -> None:
    """atheris runs a harness, and keeps what it reached in the corpus."""
    pytest.importorskip("atheris", reason="the extra fuzz is not installed")
    command = [sys.executable, "-m", "tests.fuzz.coverage_process", "masks", "rle", "2"]
    command += [str(tmp_path / "corpus" / "rle"), str(tmp_path / "findings")]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "number_of_executed_units" in done.stderr
    assert len(list((tmp_path / "corpus" / "rle").iterdir())) > 4
    assert list((tmp_path / "findings" / "rle").iterdir()) == []
