"""The command line as a whole: its help, its errors, and what it imports."""

import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import segserve.commands
from segserve import __version__
from segserve.cli import cli
from segserve.commands.command_table import COMMANDS
from segserve.settings import find_unknown_variables
from tests.commands.run_command import run_segserve


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SEGSERVE_LOG_LEVEL", "loud", "log_level"),
        ("SEGSERVE_REDIS_URL", "http://here", "Redis address"),
        ("SEGSERVE_OBJECT_STORE", "ftp://there", "object store"),
        ("SEGSERVE_DATA_DIR", "/proc/none", "data folder"),
        ("SEGSERVE_PRELOAD", "starter", "preload"),
    ],
)
def test_an_unusable_setting_is_one_clear_line(
    tmp_path: Path, variable: str, value: str, message: str
) -> None:
    done = run_segserve("serve", "--port", "0", **{"SEGSERVE_DATA_DIR": str(tmp_path), variable: value})
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_variable_is_named_with_the_one_that_is_meant(tmp_path: Path, nuclei: Path) -> None:
    options = ["--point", "413,190", "-o", tmp_path / "mask.png", "--data-dir", tmp_path / "data"]
    done = run_segserve("segment", nuclei, *options, SEGSERVE_DECODE_THREDS="2", SEGSERVE_CHEESE="1")
    assert done.returncode == 0, done.stderr
    assert (
        "SEGSERVE_DECODE_THREDS is no setting, and has no effect. Is SEGSERVE_DECODE_THREADS meant?"
        in done.stderr
    )
    assert "SEGSERVE_CHEESE is no setting, and has no effect.\n" in done.stderr


def test_every_variable_of_an_option_is_known() -> None:
    sources = Path(segserve.commands.__file__).parent.glob("*.py")
    variables = re.findall(r'envvar="(\w+)"', "".join(path.read_text() for path in sources))
    assert "SEGSERVE_METRICS_PORT" in variables
    assert not find_unknown_variables(dict.fromkeys(variables, ""))


def test_the_version_is_printed() -> None:
    done = run_segserve("--version")
    assert (done.returncode, done.stdout) == (0, f"segserve {__version__}\n")


def test_a_missing_extra_is_said_before_any_work(tmp_path: Path) -> None:
    """Not even the data folder is created."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text("import sys; sys.modules['highdicom'] = None\n")
    (tmp_path / "a.nrrd").write_text("NRRD0004\n")
    path = f"{tmp_path / 'hidden'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    options = ["--automatic", "-o", tmp_path / "labels.dcm", "--data-dir", tmp_path / "data"]
    done = run_segserve("volume", tmp_path / "a.nrrd", *options, PYTHONPATH=path)
    assert done.returncode == 1
    assert "Making a DICOM SEG needs highdicom" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_command_is_in_the_module_of_its_name() -> None:
    for name, (where, _) in COMMANDS.items():
        found = pkgutil.resolve_name(where)
        if not isinstance(found, typer.Typer):
            assert (found.__module__, found.__name__) == (f"segserve.commands.{name}", name)
            continue
        for command in found.registered_commands:
            assert command.callback is not None
            # A command that needs more than its group's package stands beside the commands, and so does a small group.
            beside = {f"segserve.commands.{each}" for each in (name, command.callback.__name__)}
            assert command.callback.__module__ in {f"segserve.{name}.cli", *beside}


def test_the_table_says_what_each_command_says_of_itself() -> None:
    commands = typer.main.get_command(cli).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        assert COMMANDS[name].summary == command.get_short_help_str(limit=100)


def test_help_explains_every_command() -> None:
    shown = run_segserve("--help").stdout
    assert set(COMMANDS) <= set(shown.split())
    assert "..." not in shown.partition("Commands:")[2], "the first sentence of each command fits"
    for command in COMMANDS:
        assert CliRunner().invoke(cli, [command, "--help"]).exit_code == 0


def test_help_shows_the_defaults_that_its_texts_name() -> None:
    shown = CliRunner().invoke(cli, ["serve", "--help"]).output
    assert "[default: 8000]" in shown
    assert "[default: 127.0.0.1]" in shown


def test_serving_imports_no_torch_and_no_grpc(tmp_path: Path) -> None:
    code = (
        "import sys, asyncio; from segserve.app import Service; from segserve.wire.rest.api import create_api;"
        "from segserve.settings import Settings; import segserve.commands.serve; from pathlib import Path\n"
        f"s = Service(Settings(data_dir=Path({str(tmp_path)!r}))); create_api(s)\n"
        "async def main():\n"
        "    await s.start(); await s.warm_up.run(); await s.stop()\n"
        "asyncio.run(main())\n"
        "print([m for m in ('torch', 'onnx', 'cv2', 'sam2', 'segment_anything', 'grpc') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["keys", "list"], ["models", "list"]])
def test_a_command_imports_only_what_it_needs(tmp_path: Path, arguments: list[str]) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    environment = {**os.environ, "SEGSERVE_DATA_DIR": str(tmp_path), "SEGSERVE_KEYS_FILE": str(keys)}
    code = (
        "import atexit, sys; from segserve.cli import main\n"
        f"sys.argv = ['segserve', *{arguments}]\n"
        "heavy = {'fastapi', 'grpc', 'onnxruntime', 'redis', 'scipy'}\n"
        "atexit.register(lambda: print(sorted(heavy & sys.modules.keys())))\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr


def test_a_client_of_another_service_imports_none() -> None:
    """Commands with `--server` begin sooner."""
    code = "import sys, segserve.commands.batch, segserve.commands.track; print('fastapi' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
