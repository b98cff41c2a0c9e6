"""`segserve train` names missing libraries, and the command line loads none of them before it trains."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from segserve.cli import cli
from segserve.errors import MissingDependency
from tests.train.drawn_discs import write_folders


@pytest.mark.parametrize("command", ["unet", "promptable"])
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    find_spec = importlib.util.find_spec

    def without_torch(name: str, *rest: Any) -> Any:
        return None if name == "torch" else find_spec(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_torch)
    images, masks = write_folders(tmp_path / "data")
    arguments = [
        "train",
        command,
        str(images),
        str(masks),
        "--name",
        "mine",
        "--data-dir",
        str(tmp_path / "home"),
    ]
    with pytest.raises(MissingDependency, match=r"needs PyTorch.*extra train: pip install"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert not (tmp_path / "home").exists()


def test_the_command_line_loads_no_training_library_before_it_trains() -> None:
    heavy = ("torch", "matplotlib", "albumentations", "cv2")
    program = f"import sys, segserve.train.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
