"""`segserve keys`, and the refusal to serve others without keys."""

import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from segserve.cli import cli
from segserve.errors import BadInput
from segserve.identity.key import Key, has_secret, now, split_key
from segserve.identity.key_file import read_keys
from segserve.settings import load_settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "secrets" / "keys.json"
    monkeypatch.setenv("SEGSERVE_KEYS_FILE", str(path))
    monkeypatch.setenv("COLUMNS", "200")
    return path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, ["keys", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def find(file: Path, token: str) -> Key:
    """Return the key of the file that this is."""
    key_id, secret = split_key(token.strip())
    (key,) = [key for key in read_keys(file) if key.id == key_id]
    assert has_secret(key, secret)
    return key


def test_a_key_is_printed_once_and_alone(file: Path) -> None:
    os.umask(0o022)
    result = run(
        "add", "anna", "--tenant", "lab-1", "--scope", "read", "--scope", "segment", "--expires", "90d"
    )
    assert result.stdout.count("\n") == 1
    key = find(file, result.stdout)
    assert result.stdout.strip() not in result.stderr
    assert (key.identity.name, key.identity.tenant, key.identity.role) == ("anna", "lab-1", "annotator")
    assert key.expires is not None
    assert (key.expires - now()).days in (89, 90)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    split_key(result.stdout.strip())
    assert split_key(result.stdout.strip())[1] not in run("list").stdout


def test_the_list_says_whose_keys_there_are(file: Path) -> None:
    run("add", "anna")
    run("add", "prometheus", "--role", "metrics", "--expires", "0s")
    listed = run("list").stdout
    for text in ("anna", "annotator", "default", "never", "prometheus", "metrics", "expired"):
        assert text in listed


def test_a_name_is_given_once(file: Path) -> None:
    run("add", "anna")
    with pytest.raises(BadInput, match="already"):
        run("add", "anna")


def test_revoke(file: Path) -> None:
    first, second = run("add", "anna").stdout, run("add", "ben").stdout
    run("revoke", "anna")
    assert [key.identity.name for key in read_keys(file)] == ["ben"]
    run("revoke", find(file, second).id)
    assert read_keys(file) == []
    with pytest.raises(BadInput, match="no key 'anna'"):
        run("revoke", "anna")
    assert first


def test_rotate_leaves_the_old_key_for_a_while(file: Path) -> None:
    old = find(file, run("add", "anna", "--role", "batch", "--expires", "30d").stdout)
    new = find(file, run("rotate", "anna", "--overlap", "2h").stdout)
    kept = next(key for key in read_keys(file) if key.id == old.id)
    assert kept.expires is not None
    assert 0 < (kept.expires - now()).total_seconds() <= 7200
    assert new.identity == old.identity
    assert new.expires is not None
    assert (new.expires - new.created).days == 30
    newer = find(file, run("rotate", "anna", "--overlap", "0s").stdout)
    assert {key.id for key in read_keys(file) if not key.is_expired(now())} == {old.id, newer.id}
    assert run("revoke", "anna").stderr.count("is revoked") == 3
    assert read_keys(file) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "anna", "--tenant", "Lab 1"], "--tenant|no name of a tenant"),
        (["add", "anna", "--scope", "fly"], "no scope 'fly'"),
        (["add", "anna", "--expires", "soon"], "no duration"),
        (["add", "a\nb"], "name cannot be used"),
        (["revoke", "anna"], "cannot be read: No such file"),
        (["list"], "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_is_said(file: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run(*arguments)
    assert not file.exists()


def test_a_file_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGSERVE_KEYS_FILE", raising=False)
    with pytest.raises(BadInput, match="No key file is named"):
        run("list")


def serve(*arguments: str) -> None:
    invoke("serve", "--port", "1", *arguments)


def invoke(*arguments: str) -> None:
    result = CliRunner().invoke(cli, arguments)
    if result.exception is not None:
        raise result.exception


def test_others_are_not_served_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSERVE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("SEGSERVE_KEYS_FILE", raising=False)
    with pytest.raises(
        BadInput, match=r"Whoever reaches 0\.0\.0\.0 could use and delete everything"
    ) as caught:
        serve("--host", "0.0.0.0")
    assert "--insecure" in caught.value.remedy
    monkeypatch.setenv("SEGSERVE_HOST", "0.0.0.0")
    with pytest.raises(BadInput, match="Whoever reaches"):
        invoke("demo")
    for variable, value in (("SEGSERVE_KEYS_FILE", str(tmp_path / "none.json")), ("SEGSERVE_HOST", "::")):
        monkeypatch.setenv(variable, value)
    with pytest.raises(BadInput, match=r"The key file .*none\.json cannot be read"):
        serve()


def test_loopback_and_those_who_insist_need_none(tmp_path: Path) -> None:
    from segserve.commands.serve import check_exposure

    for options in ({}, {"host": "::1"}, {"host": "localhost"}, {"host": "0.0.0.0", "insecure": True}):
        check_exposure(load_settings(data_dir=tmp_path, **options))
