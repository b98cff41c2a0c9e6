"""What `video`, `volume` and `track` share: the request of a job, and mistakes that name the option."""

import sys
from pathlib import Path

import pytest

from segserve.cli import main
from segserve.commands.file_job import create_job_request
from segserve.jobs.engine.job import JobKind


def test_params_without_a_value_are_left_to_the_service() -> None:
    assert create_job_request(
        JobKind.VIDEO, "FILE", None, {"objects": [], "direction": "both", "engine": None}
    ) == {
        "kind": "video",
        "model": None,
        "priority": "interactive",
        "input": {"file_id": "FILE"},
        "params": {"objects": [], "direction": "both"},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["video", "-o", "out.mp4"], "--point: There is nothing to follow"),
        (["video", "-o", "out.mp4", "--point", "1,2"], "--point: '1,2' is not x,y@frame"),
        (["video", "-o", "out.nrrd", "--point", "1,2@3"], "--output: 'out.nrrd' does not say what to write"),
        (["volume", "-o", "out.nrrd", "--automatic", "--point", "1,2@3"], "--automatic: It takes no points"),
        (["volume", "-o", "out.nrrd", "--point", "1,2@3", "--window", "9,1"], "--window: '9,1' is not low,high"),
        (["track", "-o", "out.mp4", "--linking", "cutoff"], "--linking: 'cutoff' is not name=value"),
        (["track", "-o", "out.mp4", "--server", "http://127.0.0.1:9"], "cannot be reached"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_that_names_the_option(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    clip = tmp_path / "clip"
    clip.write_bytes(b"never read")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["segserve", arguments[0], str(clip), *arguments[1:]])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [clip]
