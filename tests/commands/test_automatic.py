"""`segserve automatic`: all objects of an image, with no server running."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands.run_command import run_segserve


def test_the_output_has_the_format_of_its_suffix(tmp_path: Path, nuclei: Path) -> None:
    for name in ("labels.png", "objects.json"):
        outputs = ["-o", tmp_path / name, "--overlay", tmp_path / "overlay.png"]
        done = run_segserve("automatic", nuclei, *outputs, "--param", "min_size=100", "--data-dir", tmp_path)
        assert done.returncode == 0, done.stderr
        assert "objects in" in done.stdout
    labels = np.asarray(Image.open(tmp_path / "labels.png"))
    assert labels.shape == (520, 696)
    assert labels.max() == len(json.loads((tmp_path / "objects.json").read_text())["annotations"]) > 20
    assert np.asarray(Image.open(tmp_path / "overlay.png")).shape == (520, 696, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "labels.gif"], "does not say what to write"),
        (["-o", "labels.png", "--param", "min_size"], "not name=value"),
        (["-o", "labels.png", "--param", "min_size=-1"], "params.min_size"),
        (["-o", "labels.png", "--method", "magic"], "method"),
    ],
)
def test_mistakes_are_one_clear_line(
    tmp_path: Path, nuclei: Path, arguments: list[str], message: str
) -> None:
    arguments = [str(tmp_path / a) if a.startswith("labels") else a for a in arguments]
    done = run_segserve("automatic", nuclei, *arguments, "--data-dir", tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("labels.*"))
