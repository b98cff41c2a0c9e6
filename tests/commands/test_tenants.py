"""`segserve tenants` on an object store: what it lists and shows, and the mark that begins a deletion."""

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from segserve.cli import cli
from segserve.commands import tenants
from segserve.errors import BadInput
from segserve.store.object_store import ObjectStore, open_store
from segserve.store.tenant_deletions import TenantDeletions


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    (tmp_path / "tenants.yaml").write_text("tenants: {lab-a: {quota_mb: 12, retention_days: 0.5}, lab-c: {}}")
    monkeypatch.setenv("SEGSERVE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SEGSERVE_TENANTS_FILE", str(tmp_path / "tenants.yaml"))
    store = open_store(None, tmp_path / "objects")
    asyncio.run(store.put("lab-a/images/1/bytes", bytes(3_000_000)))
    asyncio.run(store.put("lab-b/files/1/bytes", b"1"))
    return store


def run(*arguments: str, answer: str = "") -> Result:
    result = CliRunner().invoke(cli, ["tenants", *arguments], input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines()]


def test_all_are_listed(objects: ObjectStore) -> None:
    asyncio.run(TenantDeletions(objects).mark("lab-b"))
    listed = rows(run("list"))
    assert ["lab-a", "active", "12", "-", "-", "0.5"] in listed
    assert ["lab-b", "deleting", "-", "-", "-", "-"] in listed
    assert ["lab-c", "active", "-", "-", "-", "-"] in listed
    assert ["default", "active", "-", "-", "-", "-"] in listed


def test_one_is_shown(objects: ObjectStore) -> None:
    shown = rows(run("show", "lab-a"))
    assert ["images", "1", "3.0"] in shown
    assert ["files", "0", "0.0"] in shown
    with pytest.raises(BadInput, match="no name of a tenant"):
        run("show", "a/..")


def test_one_is_deleted_after_a_question(
    objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deletions = TenantDeletions(objects)
    monkeypatch.setenv("SEGSERVE_AUDIT_LOG", str(tmp_path / "audit.jsonl"))
    assert run("delete", "lab-a", answer="n\n").exit_code == 1
    assert asyncio.run(deletions.read("lab-a")) is None
    assert run("delete", "lab-a", answer="y\n").exit_code == 0
    assert asyncio.run(deletions.refresh()) == {"lab-a"}
    [line] = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert (json.loads(line)["action"], json.loads(line)["ids"]) == ("delete", {"tenant": "lab-a"})
    monkeypatch.setattr(tenants, "POLL_S", 0.05)

    def end() -> None:
        time.sleep(0.3)
        asyncio.run(TenantDeletions(objects).unmark("lab-a"))

    service = threading.Thread(target=end)
    service.start()
    assert "lab-a is deleted" in run("delete", "lab-a", "--yes", "--wait").stderr
    service.join()
