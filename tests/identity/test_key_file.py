import os
import stat
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Thread

import pytest
import yaml

from segserve.errors import BadInput
from segserve.identity.identity import Identity
from segserve.identity.key import Key, create_key, has_secret, now, split_key
from segserve.identity.key_file import change_keys, read_keys, write_keys
from segserve.identity.rights import ALL_RIGHTS, Right
from segserve.types import AccessRole

ANNA = Identity("lab-1", AccessRole.ANNOTATOR, "Anna", Right.READ | Right.SEGMENT)
PROMETHEUS = Identity("default", AccessRole.METRICS, "prometheus")


def make_keys() -> list[Key]:
    return [create_key(ANNA, now() + timedelta(days=1))[0], create_key(PROMETHEUS)[0]]


@pytest.mark.parametrize("name", ["keys.json", "keys.yaml", "keys"])
def test_keys_come_back_as_they_were_written(tmp_path: Path, name: str) -> None:
    keys = make_keys()
    write_keys(tmp_path / name, keys)
    assert read_keys(tmp_path / name) == keys
    with_end, without_end = read_keys(tmp_path / name)
    assert without_end.identity.scopes == ALL_RIGHTS
    assert without_end.identity.expires is None
    assert keys[0].expires is not None
    assert with_end.identity.expires == keys[0].expires.timestamp()
    if name.endswith("yaml"):
        assert yaml.safe_load((tmp_path / name).read_text())["keys"][0]["scopes"] == ["read", "segment"]


def test_the_file_is_for_its_user_and_has_no_secret(tmp_path: Path) -> None:
    key, token = create_key(ANNA)
    os.umask(0o022)
    write_keys(tmp_path / "keys.json", [key])
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["keys.json"]
    key_id, secret = split_key(token)
    text = (tmp_path / "keys.json").read_text()
    assert key_id in text
    assert secret not in text
    assert has_secret(key, secret)
    assert not has_secret(key, secret[:-1])
    assert not has_secret(None, secret)


def test_a_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "keys.json").symlink_to(tmp_path / "real" / "keys.json")
    write_keys(tmp_path / "real" / "keys.json", [])
    with change_keys(tmp_path / "keys.json") as keys:
        keys.extend(make_keys())
    assert (tmp_path / "keys.json").is_symlink()
    assert len(read_keys(tmp_path / "real" / "keys.json")) == 2


def test_two_changes_at_once_are_both_kept(tmp_path: Path) -> None:
    path, barrier = tmp_path / "keys.json", Barrier(4)

    def add() -> None:
        barrier.wait()
        for _ in range(5):
            with change_keys(path) as keys:
                keys.append(create_key(ANNA)[0])

    threads = [Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_keys(path)) == 20


ENTRY = {"id": "a1", "hash": "0" * 64, "name": "Anna", "tenant": "default", "role": "annotator",
         "created": "2026-11-28T12:00:00Z"}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither|all of it"),
        ("keys: [", "line 1"),
        ("[]", "all of it"),
        ("\0", "neither JSON nor YAML"),
        ("{'keys': [{}]}", "keys.0.id"),
        (yaml.dump({"keys": [{**ENTRY, "hash": "segserve_a1_" + "5" * 64}]}), r"keys\.0\.hash"),
        (yaml.dump({"keys": [{**ENTRY, "role": "king"}]}), r"keys\.0\.role"),
        (yaml.dump({"keys": [{**ENTRY, "tenant": "../up"}]}), r"keys\.0\.tenant"),
        (yaml.dump({"keys": [{**ENTRY, "tenant": "lab\n"}]}), r"keys\.0\.tenant"),
        (yaml.dump({"keys": [{**ENTRY, "tenant": "jobs"}]}), r"keys\.0\.tenant.*not deleted, .*jobs"),
        (yaml.dump({"keys": [{**ENTRY, "tenant": "segserve_a1_" + "5" * 64}]}), r"keys\.0\.tenant"),
        (yaml.dump({"keys": [{**ENTRY, "scopes": ["fly"]}]}), "no scope 'fly'"),
        (yaml.dump({"keys": [{**ENTRY, "created": "yesterday"}]}), r"keys\.0\.created"),
        (yaml.dump({"keys": [{**ENTRY, "created": "2026-11-28T12:00:00"}]}), r"keys\.0\.created"),
        (yaml.dump({"keys": [{**ENTRY, "admin": True}]}), r"keys\.0\.admin"),
        (yaml.dump({"keys": [ENTRY, ENTRY]}), "same id"),
        ("!!python/object/apply:os.system ['true']", "no YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_its_content(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        read_keys(path)
    assert "5555" not in str(caught.value)


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, [])
    path.chmod(0o646)
    with pytest.raises(BadInput, match="Every user may write"):
        read_keys(path)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        read_keys(tmp_path / "none.json")
