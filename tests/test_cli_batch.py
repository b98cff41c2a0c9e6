"""`segserve batch`: many pictures, here or by a server, to the same files."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.serving import Server


def batch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "segserve.cli", "batch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path, nuclei: Path) -> Path:
    """Two pictures, and one that is none."""
    inside = tmp_path / "pictures" / "a"
    inside.mkdir(parents=True)
    (inside / "one.png").write_bytes(nuclei.read_bytes())
    Image.open(nuclei).crop((0, 0, 200, 150)).save(inside / "two.png")
    (inside.parent / "broken.png").write_text("no picture")
    return inside.parent


def test_here_and_by_a_server_alike(tmp_path: Path, folder: Path, server: Server) -> None:
    outputs = [tmp_path / "here.ndjson", tmp_path / "there.ndjson"]
    for output, more in zip(
        outputs, [["--data-dir", str(tmp_path / "d")], ["--server", server.url]], strict=True
    ):
        done = batch(folder, "-o", output, "--param", "min_size=60", *more)
        assert done.returncode == 1, "one is broken"
        assert "broken.png: The file is in no image format that is read." in done.stderr
        assert "2 of 3 pictures" in done.stdout
    here, there = ({r["name"]: r for r in map(json.loads, p.read_text().splitlines())} for p in outputs)
    assert set(here) == set(there) == {"broken.png", "a/one.png", "a/two.png"}
    for name in ("a/one.png", "a/two.png"):
        assert here[name] == there[name]
        assert here[name]["objects"]


def test_label_maps_in_a_zip(tmp_path: Path, folder: Path) -> None:
    (folder / "broken.png").unlink()
    output = tmp_path / "maps.zip"
    done = batch(folder, "-o", output, "--operation", "semantic", "--data-dir", tmp_path / "d")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == ["000000-a_one.png", "000001-a_two.png"]
        found = np.asarray(Image.open(io.BytesIO(archive.read("000001-a_two.png"))))
    assert found.shape == (150, 200)
    assert set(np.unique(found)) == {0, 1}


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, folder: Path) -> None:
    for arguments, said in [
        (["-o", "x.gif"], "does not say what to write"),
        (["-o", "x.zip", "--param", "magic=1"], "magic"),
        (["-o", "x.zip", "--model", "nobody"], "no model 'nobody'"),
        (["-o", "x.zip", "--server", "http://127.0.0.1:9"], "cannot be reached"),
    ]:
        done = batch(folder, *arguments, "--data-dir", tmp_path / "d")
        assert done.returncode == 1
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
