"""`segserve similar`: more objects like a few examples, with no server running."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands.run_command import run_segserve

ON_TWO_NUCLEI = ("--point", "413,190", "--point", "120,80")


def test_the_output_has_the_format_of_its_suffix(tmp_path: Path, nuclei: Path) -> None:
    outputs = ["-o", tmp_path / "objects.json", "--overlay", tmp_path / "overlay.png"]
    done = run_segserve("similar", nuclei, *outputs, *ON_TWO_NUCLEI, "--data-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "objects.json").read_text())["objects"]
    assert f"{len(found)} objects" in done.stdout
    assert np.asarray(Image.open(tmp_path / "overlay.png")).shape == (520, 696, 3)


def test_examples_as_a_label_map_on_another_image(tmp_path: Path, nuclei: Path) -> None:
    labels = np.zeros((520, 696), np.uint8)
    labels[180:200, 403:423] = 1
    Image.fromarray(labels).save(tmp_path / "examples.png")
    Image.open(nuclei).transpose(Image.Transpose.ROTATE_180).save(tmp_path / "turned.png")
    arguments = ["--masks", tmp_path / "examples.png", "--example-image", nuclei, "--param", "max_objects=3"]
    done = run_segserve(
        "similar", tmp_path / "turned.png", "-o", tmp_path / "map.npy", *arguments, "--data-dir", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "map.npy").max() <= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "labels.png"], "There are no examples"),
        (["-o", "labels.png", "--point", "1"], "not 2 numbers"),
        (["-o", "labels.png", "--point", "1,2", "--param", "rounds=0"], "params.rounds"),
        (["-o", "labels.gif", "--point", "1,2"], "does not say what to write"),
    ],
)
def test_mistakes_are_one_clear_line(
    tmp_path: Path, nuclei: Path, arguments: list[str], message: str
) -> None:
    arguments = [str(tmp_path / a) if a.startswith("labels") else a for a in arguments]
    done = run_segserve("similar", nuclei, *arguments, "--data-dir", tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("labels.*"))
