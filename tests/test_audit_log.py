"""The audit log writes every line, never the caller's time, and goes on in a new file after a rotation."""

import json
import stat
import time
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from segserve import audit_log
from segserve.audit_log import AuditLog
from segserve.errors import BadInput


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_normal_stop_writes_all_lines(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(str(path))
    for number in range(5000):
        audit.write("create", name="anna", ids={"image_id": str(number)}, status="201")
    audit.close()
    audit.write("create")  # nobody listens any more
    audit.close()
    lines = read(path)
    assert [line["ids"]["image_id"] for line in lines] == [str(number) for number in range(5000)]
    assert lines[0] == {**lines[0], "action": "create", "name": "anna", "status": "201"}
    assert lines[0]["time"].endswith("Z")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_slow_disk_delays_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[str]()

    def emit(self: object, record: Any) -> None:
        time.sleep(0.05)
        written.append(record.getMessage())

    monkeypatch.setattr(audit_log.AuditHandler, "emit", emit)
    audit = AuditLog(str(tmp_path / "audit.jsonl"))
    for _ in range(10):
        audit.write("read")
    assert len(written) < 10
    audit.close()
    assert len(written) == 10


def test_what_memory_has_no_room_for_is_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_free, written, dropped = Event(), list[str](), list[int]()

    def emit(self: object, record: Any) -> None:
        is_free.wait(60)
        written.append(record.getMessage())

    monkeypatch.setattr(audit_log.AuditHandler, "emit", emit)
    monkeypatch.setattr(audit_log, "MAX_WAITING", 10)
    log = SimpleNamespace(error=lambda _, lines: dropped.append(lines))
    monkeypatch.setattr(audit_log, "log", log)
    audit = AuditLog(str(tmp_path / "audit.jsonl"))
    for number in range(30):
        audit.write("read", number=number)
    assert dropped == [1], "it is told at once, and then now and again"
    is_free.set()
    audit.close()
    assert 10 <= len(written) <= 11, "the disk has one, ten wait"
    assert sum(dropped) == 30 - len(written)


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(str(path))
    audit.write("create", number=1)
    while not path.read_text():
        time.sleep(0.01)
    path.rename(tmp_path / "audit.jsonl.1")
    audit.write("create", number=2)
    audit.close()
    assert [line["number"] for line in read(tmp_path / "audit.jsonl.1")] == [1]
    assert [line["number"] for line in read(path)] == [2]


def test_a_line_controls_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(str(path))
    audit.write("create", name="a\x1b[2J\n\u202e\x9b")
    audit.close()
    assert path.read_text().isascii()
    assert len(path.read_text().splitlines()) == 1
    assert read(path)[0]["name"] == "a\x1b[2J\n\u202e\x9b"


def test_a_full_disk_is_in_the_services_own_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit = AuditLog("/dev/full")
    audit.write("create", name="anna")
    audit.close()
    said = capsys.readouterr()
    assert "audit line not written" in said.out + said.err


def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file") as refused:
        AuditLog(str(tmp_path / "nowhere" / "audit.jsonl"))
    assert refused.value.field == "SEGSERVE_AUDIT_LOG"
    assert str(tmp_path) not in str(refused.value)
