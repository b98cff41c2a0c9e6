"""`segserve train` without what it needs, and what the service does not need of it."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from segserve.cli import cli
from segserve.errors import MissingDependency
from tests.train.drawn import folders


@pytest.mark.parametrize("command", ["unet", "promptable"])
def test_what_is_missing_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    found = importlib.util.find_spec

    def without_torch(name: str, *rest: Any) -> Any:
        return None if name == "torch" else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_torch)
    images, masks = folders(tmp_path / "data")
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
    with pytest.raises(MissingDependency, match=r"needs PyTorch.*segserve\[train\]"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert not (tmp_path / "home").exists()


def test_the_command_line_loads_nothing_of_it_before_it_is_asked_for() -> None:
    heavy = ("torch", "matplotlib", "albumentations", "cv2")
    program = f"import sys, segserve.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
