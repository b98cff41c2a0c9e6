"""`segserve automatic`: all objects of an image, with no server running."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
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
        (["-o", "labels.png", "--tolerance", "1"], "tolerance"),
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


def test_a_stack_is_not_cut_to_its_first_page_without_a_word(tmp_path: Path, nuclei: Path) -> None:
    first = np.asarray(Image.open(nuclei).convert("L"))
    stack, labels = tmp_path / "stack.tif", tmp_path / "labels.png"
    tifffile.imwrite(stack, np.stack([first, np.zeros_like(first)]), photometric="minisblack")
    shared = ("automatic", stack, "-o", labels, "--data-dir", tmp_path)
    done = run_segserve(*shared)
    assert done.returncode == 0, done.stderr
    assert "the first of 2 pages" in done.stderr
    assert "segserve volume" in done.stderr
    assert np.asarray(Image.open(labels)).max() > 20
    done = run_segserve(*shared, "--page", "1")
    assert done.returncode == 0, done.stderr
    assert "the first of" not in done.stderr
    assert np.asarray(Image.open(labels)).max() == 0
