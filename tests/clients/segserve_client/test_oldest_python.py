"""The Python client under Python 3.10, the oldest that it supports: the blocks of its README, and its example."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.clients.environments import install, run
from tests.docs_blocks import ROOT, read_blocks
from tests.serving import Server

pytestmark = pytest.mark.clients

CLIENT = ROOT / "clients" / "python"
OLDEST = "3.10"


@pytest.fixture(scope="module")
def python() -> Path:
    assert f'requires-python = ">={OLDEST}"' in (CLIENT / "pyproject.toml").read_text()
    found = shutil.which(f"python{OLDEST}")
    if found is None or subprocess.run([found, "--version"], capture_output=True).returncode:
        pytest.skip(f"Python {OLDEST} is not installed")
    return install("oldest-python", "httpx>=0.27", "numpy>=1.24", "pillow", base=found)


def test_the_readme_and_the_example(python: Path, server: Server, tmp_path: Path, nuclei: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CLIENT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    blocks = [block for block in read_blocks(CLIENT / "README.md") if block.language == "python"]
    assert len(blocks) > 2
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for number, block in enumerate(blocks):
        script = tmp_path / f"block{number}.py"
        script.write_text(
            f"import os\nos.chdir({str(tmp_path)!r})\n"
            + block.text.replace("http://127.0.0.1:8000", server.url)
        )
        assert run(python, script, **environment)

    (folder := tmp_path / "pictures").mkdir()
    Image.open(nuclei).convert("RGB").crop((0, 0, 348, 260)).save(folder / "a.png")
    arguments = [str(folder), str(tmp_path / "cells.csv"), "--server", server.url]
    printed = run(python, CLIENT / "examples" / "count_cells.py", *arguments, **environment)
    assert re.search(r"[1-9]\d* cells, the median", printed)
