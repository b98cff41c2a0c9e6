"""`segserve doctor`: what is here, what is missing, and what to do."""

import json
import socket
from pathlib import Path

from tests.commands.run_command import run_segserve


def test_here_everything_is_found(tmp_path: Path) -> None:
    done = run_segserve("doctor", "--json", "--data-dir", tmp_path, SEGSERVE_PORT="0")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert report["ok"]
    names = {check["name"] for check in report["checks"]}
    assert {
        "python",
        "machine",
        "runtime",
        "gpu",
        "extras",
        "sandbox",
        "cache",
        "jobs",
        "folder",
        "models",
    } <= names
    assert any("starter" in check["text"] for check in report["checks"] if check["name"] == "models")


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_segserve(
            "doctor",
            "--data-dir",
            tmp_path,
            SEGSERVE_PORT=port,
            SEGSERVE_PRELOAD='["nobody"]',
            SEGSERVE_REDIS_URL="redis://:secret@127.0.0.1:9",
            SEGSERVE_PRELAOD="x",
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    missing = [line.split()[1] for line in lines if line.startswith("missing")]
    assert missing == ["cache", "models", "ports"]
    assert any("Is SEGSERVE_PRELOAD meant?" in line for line in lines)
    assert any(line.split()[:2] == ["note", "jobs"] for line in lines)
    assert "secret" not in done.stdout
    assert "'segserve serve' does not work yet" in lines[-1]


def test_a_setting_that_cannot_be_used_is_the_first_thing_to_mend(tmp_path: Path) -> None:
    done = run_segserve("doctor", "--json", "--data-dir", tmp_path, SEGSERVE_PORT="many")
    assert done.returncode == 1
    last = json.loads(done.stdout)["checks"][-1]
    assert (last["name"], last["verdict"]) == ("settings", "missing")
    assert "SEGSERVE_PORT" in last["remedy"]
