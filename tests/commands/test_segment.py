"""`segserve segment`: one object of an image, with no server running."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands.run_command import run_segserve


def test_a_mask_is_written_with_no_server(tmp_path: Path, nuclei: Path) -> None:
    output = tmp_path / "mask.png"
    prompt = ["--point", "413,190", "--box", "380,160,445,225"]
    done = run_segserve("segment", nuclei, *prompt, "-o", output, "--data-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    mask = np.asarray(Image.open(output))
    assert mask.shape == (520, 696)
    assert mask[190, 413]
    assert 100 < mask.sum() < 10_000
    assert "decoded in" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--point", "5000,1"], "outside the image"),
        (["--point", "a,b"], "2 numbers"),
        ([], "There is no prompt"),
        (["--box", "9,9,1,1"], "reversed"),
        (["--point", "1,1", "--model", "none"], "no model 'none'"),
    ],
)
def test_mistakes_are_one_clear_line(
    tmp_path: Path, nuclei: Path, arguments: list[str], message: str
) -> None:
    done = run_segserve("segment", nuclei, *arguments, "-o", tmp_path / "m.png", "--data-dir", tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "m.png").exists()


def test_another_suffix_than_png_is_refused(tmp_path: Path, nuclei: Path) -> None:
    done = run_segserve("segment", nuclei, "--point", "413,190", "-o", tmp_path / "m.jpg")
    assert (done.returncode, "would be a PNG" in done.stderr) == (1, True)
