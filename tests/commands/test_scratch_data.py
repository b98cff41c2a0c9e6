"""What a command leaves behind: its output. Nothing of it stays in the data folder, also where it is ended."""

import signal
import time
from pathlib import Path

import pytest

from segserve.commands.scratch_data import use_scratch_data
from segserve.settings import Settings
from tests.commands.run_command import run_segserve, running_segserve
from tests.files import sample_files


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def find_processes(folder: Path) -> list[str]:
    """The command lines of all processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def test_models_are_those_of_the_data_folder_and_all_else_is_new(tmp_path: Path) -> None:
    with use_scratch_data(Settings(data_dir=tmp_path, object_store="s3://bucket", quota_mb=1)) as settings:
        assert settings.models_folder == tmp_path / "models"
        assert settings.data_dir.is_relative_to(tmp_path / "tmp")
        assert settings.object_store is None
        (settings.data_dir / "file").write_text("x")
    assert not list_files(tmp_path)


def test_pictures_do_not_stay(tmp_path: Path, nuclei: Path) -> None:
    data = tmp_path / "data"
    done = run_segserve(
        "segment", nuclei, "--point", "413,190", "-o", tmp_path / "mask.png", "--data-dir", data
    )
    assert done.returncode == 0, done.stderr
    assert not list_files(data)
    done = run_segserve("batch", nuclei, "-o", tmp_path / "maps.zip", "--data-dir", data)
    assert done.returncode == 0, done.stderr
    assert not list_files(data)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_command_leaves_no_server_and_no_file(tmp_path: Path, number: int) -> None:
    data = tmp_path / "data"
    clip = sample_files.write_video(tmp_path / "clip.mp4", 60)
    with running_segserve("track", clip, "-o", tmp_path / "tracks.zip", "--data-dir", data) as command:
        deadline = time.monotonic() + 120
        while not list(data.glob("tmp/*/jobs/redis.pid")):
            command.check_that_it_runs(deadline)
            time.sleep(0.05)
        assert command.end_by(number) == (143 if number == signal.SIGTERM else 130)
        assert "stopping" in command.read_output()
    assert not list_files(data)
    assert not find_processes(data)
