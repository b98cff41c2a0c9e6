"""`segserve demo`: it serves a sample with three clicks, says what to do next, and leaves nothing behind."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx


def test_three_clicks_are_shown_and_nothing_stays(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "segserve.cli",
        "demo",
        "--port",
        "0",
        "--no-browser",
        "--data-dir",
        str(tmp_path),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        while "Ctrl-C ends the demo" not in (line := process.stdout.readline()):
            assert line, "".join(lines)
            lines.append(line)
        said = "".join(lines)
        scores = [float(score) for score in re.findall(r"click \d at .* score ([\d.]+)", said)]
        page = re.search(r"(http://\S+)/#image=(\w+)((?:&point=\d+,\d+){3})", said)
        assert page is not None
        assert httpx.get(page[1] + "/").is_success
        assert httpx.get(f"{page[1]}/v1/images/{page[2]}").is_success
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
    assert len(scores) == 3
    assert min(scores) > 0.8, "each click is on a nucleus"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
