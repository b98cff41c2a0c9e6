import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from segserve.errors import BadInput, Unauthenticated
from segserve.identity import key_authenticator
from segserve.identity.authenticator import Authenticators
from segserve.identity.identity import Identity
from segserve.identity.key import create_key, now
from segserve.identity.key_authenticator import KeyAuthenticator
from segserve.identity.key_file import write_keys
from segserve.types import AccessRole

ANNA = Identity("lab-1", AccessRole.ANNOTATOR, "Anna")


def authenticate(authenticator: KeyAuthenticator, token: str) -> Identity:
    return asyncio.run(authenticator.authenticate(token))


def test_a_key_is_its_identity_and_nothing_else_is(tmp_path: Path) -> None:
    key, token = create_key(ANNA)
    write_keys(tmp_path / "keys.json", [key])
    authenticator = KeyAuthenticator(tmp_path / "keys.json")
    assert authenticate(authenticator, token) == ANNA
    other = create_key(ANNA)[1]
    mixed = f"segserve_{key.id}_{other.rpartition('_')[2]}"
    wrong = [
        other,
        mixed,
        token[:-1],
        token + "0",
        f"segserve_{key.id}_",
        "segserve_",
        key.hash,
        "segserve_\0é_x",
    ]
    messages = set()
    for each in wrong:
        with pytest.raises(Unauthenticated) as caught:
            authenticate(authenticator, each)
        messages.add(str(caught.value))
    assert len(messages) == 1  # nobody learns which ids there are


def test_a_key_ends_when_it_expires(tmp_path: Path) -> None:
    key, token = create_key(ANNA, now() - timedelta(seconds=1))
    write_keys(tmp_path / "keys.json", [key])
    with pytest.raises(Unauthenticated, match="expired"):
        authenticate(KeyAuthenticator(tmp_path / "keys.json"), token)


def test_the_keys_follow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    (first, token), (second, other) = create_key(ANNA), create_key(ANNA)
    write_keys(path, [first])
    authenticator = KeyAuthenticator(path)
    write_keys(path, [second])
    authenticator.reload()
    assert authenticate(authenticator, other) == ANNA
    with pytest.raises(Unauthenticated):
        authenticate(authenticator, token)


def test_the_keys_follow_a_secret_of_kubernetes(tmp_path: Path) -> None:
    """The kubelet writes a new folder, and swaps the link `..data`: the file itself is never written to."""
    (first, token), (second, other) = create_key(ANNA), create_key(ANNA)
    for folder, key in (("..1", first), ("..2", second)):
        (tmp_path / folder).mkdir()
        write_keys(tmp_path / folder / "keys.json", [key])
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    authenticator = KeyAuthenticator(tmp_path / "keys.json")
    assert authenticate(authenticator, token) == ANNA
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    authenticator.reload()
    assert authenticate(authenticator, other) == ANNA
    with pytest.raises(Unauthenticated):
        authenticate(authenticator, token)


@pytest.mark.parametrize("damage", ["empty", "broken", "missing"])
def test_a_broken_file_keeps_the_last_good_keys(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.json"
    (first, token), (second, other) = create_key(ANNA), create_key(ANNA)
    write_keys(path, [first])
    authenticator = KeyAuthenticator(path)
    if damage == "missing":
        path.unlink()
    else:
        path.write_text("" if damage == "empty" else '{"keys": [')
    authenticator.reload()
    assert authenticate(authenticator, token) == ANNA
    assert "the keys stay as they were" in capsys.readouterr().out
    authenticator.reload()
    assert "the keys stay" not in capsys.readouterr().out  # once for each change
    write_keys(path, [second])
    authenticator.reload()
    assert authenticate(authenticator, other) == ANNA


def test_a_broken_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(BadInput, match="broken"):
        KeyAuthenticator(tmp_path / "keys.json")


def test_the_file_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_authenticator, "CHECK_INTERVAL_S", 0.01)
    key, token = create_key(ANNA)
    write_keys(tmp_path / "keys.json", [])
    authenticator = KeyAuthenticator(tmp_path / "keys.json")

    async def wait_for_key() -> Identity:
        watch = asyncio.create_task(authenticator.watch())
        write_keys(tmp_path / "keys.json", [key])
        async with asyncio.timeout(30):
            while True:
                try:
                    return await authenticator.authenticate(token)
                except Unauthenticated:
                    await asyncio.sleep(0.01)
                finally:
                    assert not watch.done()

    assert asyncio.run(wait_for_key()) == ANNA


def test_a_credential_of_no_kind_is_refused(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys.json", [])
    authenticators = Authenticators([KeyAuthenticator(tmp_path / "keys.json")])
    for credential in (None, "", "password", "a.b.c"):
        with pytest.raises(Unauthenticated):
            asyncio.run(authenticators.authenticate(credential, "192.0.2.1"))
