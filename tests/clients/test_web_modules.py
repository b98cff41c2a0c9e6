"""The pure modules of the page, tested in Node: tests/clients/web/*.test.js."""

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent / "web"


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.test.js")), ids=lambda path: path.name)
def test_modules_in_node(path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    run = subprocess.run([node, "--test", path], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
