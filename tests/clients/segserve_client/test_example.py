"""The example of the client, as a user runs it."""

import csv
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.serving import Server

EXAMPLE = Path(__file__).parents[3] / "clients" / "python" / "examples" / "count_cells.py"


def test_count_cells(tmp_path: Path, server: Server, nuclei: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = Image.open(nuclei).convert("RGB")
    picture.crop((0, 0, 348, 260)).save(folder / "a.png")
    picture.crop((348, 260, 696, 520)).save(folder / "b.jpg")
    (folder / "notes.txt").write_text("no picture")
    command = [sys.executable, EXAMPLE, folder, tmp_path / "cells.csv", "--server", server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "notes.txt: " in done.stdout
    rows = list(csv.DictReader((tmp_path / "cells.csv").read_text().splitlines()))
    assert {row["picture"] for row in rows} == {"a.png", "b.jpg"}
    assert all(int(row["area"]) >= 60 and 0 < float(row["brightness"]) < 255 for row in rows)
    assert f"{len(rows)} cells, the median has" in done.stdout
