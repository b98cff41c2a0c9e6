"""The page's time line against a real service: objects followed, corrected, and there again after a reload."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile

from tests.conftest import EXAMPLES
from tests.serving import Server

SCRIPT = Path(__file__).parent / "web" / "follow_clip.js"
TIMEOUT_S = 300

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def follow(server: Server, path: Path, axis: int, frame: int, *points: str) -> dict[str, Any]:
    command = ["node", str(SCRIPT), server.url, str(path), str(axis), str(frame), *points]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_cells_of_a_stack(server: Server) -> None:
    told = follow(server, EXAMPLES / "cells.tif", 0, 5, "55,57", "112,105")
    assert (told["state"], told["problem"]) == ("succeeded", None)
    assert told["frames"] == 20
    assert told["found"] >= 8
    assert told["changes"] >= told["found"], "results are shown as they come"
    assert (told["prompted"], told["promptedThen"]) == (1, 2)
    assert told["shown"] == 2
    assert 0 < told["corrected"] < 2 * told["lines"]
    assert told["same"]


def test_a_volume_along_another_axis(server: Server, tmp_path: Path) -> None:
    """The stack as a volume, turned, so that its slices follow each other along the last axis."""
    stack = tifffile.imread(EXAMPLES / "cells.tif")
    path = tmp_path / "cells.nii"
    nibabel.save(
        nibabel.Nifti1Image(stack.astype(np.int16), np.eye(4)), path
    )  # x, y, z are frames, rows, columns
    told = follow(server, path, 2, 5, "57,55")
    assert (told["state"], told["problem"], told["frames"]) == ("succeeded", None, 20)
    assert told["found"] >= 5
    assert told["same"]
