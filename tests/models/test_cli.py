"""`segserve models`, as its user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segserve.errors import BadInput, BrokenModel, ModelNotFound
from segserve.models.bundle import Bundle
from segserve.models.cli import app
from tests.models.test_registry import write_test_bundle


def run(data: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--data-dir", str(data)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_shows_installed_and_published_models(tmp_path: Path) -> None:
    write_test_bundle(tmp_path / "models", "mine")
    output = run(tmp_path, "list")
    assert "mine" in output
    assert "starter" in output
    assert "mobile-sam" in output
    assert "photographs" in output
    assert "prompts" in output


def test_list_cuts_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "a-model-with-a-long-name-such-as-people-give-to-their-own-ones"
    write_test_bundle(tmp_path / "models", name)
    assert any(name in line for line in run(tmp_path, "list").splitlines())


def test_verify_names_the_broken_file(tmp_path: Path) -> None:
    bundle = write_test_bundle(tmp_path / "models", "mine")
    assert "mine: ok" in run(tmp_path, "verify", "mine")
    bundle.path("encoder.onnx").write_bytes(b"other")
    result = CliRunner().invoke(app, ["verify", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "encoder.onnx" in result.output
    assert "starter: ok" in result.output


def test_remove_deletes_imported_models_and_refuses_built_in_ones(tmp_path: Path) -> None:
    write_test_bundle(tmp_path / "models", "mine")
    run(tmp_path, "remove", "mine")
    assert not (tmp_path / "models" / "mine").exists()
    with pytest.raises(ModelNotFound):
        run(tmp_path, "remove", "mine")
    with pytest.raises(BadInput, match="came with segserve"):
        run(tmp_path, "remove", "starter")


def test_half_adds_an_fp16_encoder(tmp_path: Path) -> None:
    assert "starter: ready" in run(tmp_path, "half", "starter")
    mine = Bundle(tmp_path / "models" / "starter")
    mine.verify()
    assert mine.has("encoder.fp16.onnx")
    with pytest.raises(BadInput, match="has an encoder in fp16"):
        run(tmp_path, "half", "starter")
    write_test_bundle(tmp_path / "models", "nothing")
    with pytest.raises(BrokenModel, match="cannot be had in fp16"):
        run(tmp_path, "half", "nothing")
    assert not Bundle(tmp_path / "models" / "nothing").has("encoder.fp16.onnx")


def test_unknown_models_and_kinds_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No published model"):
        run(tmp_path, "pull", "nonsense")
    with pytest.raises(BadInput, match="no importer 'nonsense'"):
        run(tmp_path, "import", "nonsense", "c.pth", "--name", "c")


def test_torch_is_not_imported_without_need(tmp_path: Path) -> None:
    write_test_bundle(tmp_path / "models", "mine")
    for command in (["list"], ["verify", "mine"], ["remove", "mine"]):
        code = (
            "import sys\nfrom segserve.models.cli import app\n"
            f"app({[*command, '--data-dir', str(tmp_path)]!r}, standalone_mode=False)\n"
            "assert not {'torch', 'onnx', 'segment_anything', 'sam2'} & sys.modules.keys()"
        )
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
