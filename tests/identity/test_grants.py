"""Logins and links: whose they are, when they end, and that nobody else can make one."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from segserve.errors import BadInput, Unauthenticated
from segserve.identity.grants import LINK_PURPOSE, LOGIN_PURPOSE, Grant, Grants, from_json, to_json
from segserve.identity.identity import Identity
from segserve.identity.rights import Right
from segserve.identity.signer import Signer, Signers
from segserve.store.object_store import open_store
from segserve.store.signing_secret import SigningSecret
from segserve.types import AccessRole

SECRET = b"s" * 32
ANNA = Identity("lab-a", AccessRole.ANNOTATOR, "anna", key_id="a1")
BERT = Identity("lab-b", AccessRole.BATCH, "bert", Right.READ | Right.SEGMENT, expires=2000.0)
IMAGE = "/v1/images/abc"


class World:
    """A clock and a key file. secret: of the service."""

    def __init__(self, secret: bytes = SECRET) -> None:
        self.now = 1000.0
        self.keys = {"a1": ANNA}
        self._secret = secret
        self.grants = Grants(Signers(self._load), self.keys.get, lambda: self.now)

    async def _load(self) -> bytes:
        return self._secret

    def login(self, identity: Identity, max_s: float = 500) -> tuple[str, float]:
        return asyncio.run(self.grants.create_login(identity, max_s))

    def link(self, identity: Identity, path: str = IMAGE, max_s: float = 500) -> str:
        return asyncio.run(self.grants.create_link(identity, path, max_s))[0]

    def read_login(self, text: str) -> Identity:
        return asyncio.run(self.grants.read_login(text))

    def read_link(self, text: str, path: str = IMAGE) -> Identity:
        return asyncio.run(self.grants.read_link(text, path))


@pytest.fixture
def world() -> World:
    return World()


def test_a_login_is_its_keys_identity_until_it_ends(world: World) -> None:
    login, expires = world.login(ANNA)
    assert expires == 1500.0
    found = world.read_login(login)
    assert (found, found.key_id, found.expires) == (ANNA, "a1", 1500.0)
    world.keys["a1"] = replace(ANNA, role=AccessRole.BATCH)  # the operator has changed it
    assert world.read_login(login).role is AccessRole.BATCH
    world.now = 1500.0
    with pytest.raises(Unauthenticated, match="has ended"):
        world.read_login(login)


def test_revoking_a_key_ends_its_logins_and_links(world: World) -> None:
    login, _ = world.login(ANNA)
    link = world.link(ANNA)
    del world.keys["a1"]
    for read, text in ((world.read_login, login), (world.read_link, link)):
        with pytest.raises(Unauthenticated, match="was revoked"):
            read(text)


def test_a_grant_for_a_token_says_itself_who_it_is_and_ends_with_it(world: World) -> None:
    login, expires = world.login(BERT, max_s=5000)
    assert expires == 2000.0
    assert world.read_login(login) == BERT
    assert "lab-b" not in login, "in base64"
    world.now = 2000.0
    with pytest.raises(Unauthenticated):
        world.read_login(login)


def test_a_link_made_by_a_login_ends_with_the_login(world: World) -> None:
    login, _ = world.login(ANNA, max_s=100)
    link, expires = asyncio.run(world.grants.create_link(world.read_login(login), IMAGE, 3600))
    assert expires == 1100.0
    assert world.read_link(link).tenant == "lab-a"


def test_a_link_reads_what_is_below_its_path_and_nothing_else(world: World) -> None:
    link = world.link(ANNA)
    for path in (IMAGE, f"{IMAGE}/preview", f"{IMAGE}/tiles/0/0/0"):
        found = world.read_link(link, path)
        assert (found.tenant, found.rights) == ("lab-a", Right.READ)
    for path in ("/v1/images/abcd", "/v1/images", "/v1/images/other/preview", "/", "", "/v1/files/abc"):
        with pytest.raises(Unauthenticated, match="another path"):
            world.read_link(link, path)
    narrow = world.link(replace(ANNA, scopes=Right.SEGMENT, key_id=""))
    assert not world.read_link(narrow).rights


def test_a_link_that_nobody_could_read_is_not_made(world: World) -> None:
    path = "/v1/images/" + "é" * 600
    assert world.read_link(world.link(ANNA, path), path).tenant == "lab-a"
    with pytest.raises(BadInput, match="too long") as caught:
        world.link(ANNA, "/v1/images/" + "é" * 1000)
    assert caught.value.field == "path"


def test_nobody_else_can_make_one(world: World) -> None:
    login, _ = world.login(ANNA)
    link = world.link(ANNA)
    for text in (
        "",
        ".",
        "a.b",
        login[:-1],
        login + "=",
        login.replace(".", ""),
        "é.è",
        "." * 5000,
        f"{login}.x",
    ):
        with pytest.raises(Unauthenticated, match="not of this service"):
            world.read_login(text)
    with pytest.raises(Unauthenticated, match="not of this service"):
        world.read_login(link)
    with pytest.raises(Unauthenticated, match="not of this service"):
        world.read_link(login)
    with pytest.raises(Unauthenticated, match="not of this service"):
        World(b"another secret").read_login(login)


def test_mutated_grants_are_refused(world: World) -> None:
    dice = random.Random(0)
    login, _ = world.login(BERT)
    for _ in range(500):
        text = list(login)
        text[dice.randrange(len(text))] = dice.choice("ABCabc019-_.=\0é ")
        if "".join(text) != login:
            with pytest.raises(Unauthenticated):
                world.read_login("".join(text))


def test_signed_contents_of_other_versions_are_refused(world: World) -> None:
    signer = Signer(SECRET, LOGIN_PURPOSE)
    content = to_json(Grant("a1", None, 1500.0))
    assert from_json(signer.read(signer.sign(content)) or {}) == Grant("a1", None, 1500.0)
    assert Signer(SECRET, LINK_PURPOSE).read(signer.sign(content)) is None
    unknown = Identity("lab-b", type("Role", (), {"value": "root"})(), "bert")  # type: ignore[arg-type]
    assert from_json(to_json(Grant("", unknown, 1500.0))) is None


def test_replicas_share_one_secret_in_the_object_store(tmp_path: Any) -> None:
    async def load_many() -> set[bytes]:
        replicas = [SigningSecret(open_store(None, tmp_path), None) for _ in range(8)]
        return set(await asyncio.gather(*(replica.load() for replica in replicas)))

    [secret] = asyncio.run(load_many())
    assert len(secret) == 32
    assert asyncio.run(load_many()) == {secret}, "also after a restart"
    given = SigningSecret(open_store(None, tmp_path), "0123456789abcdef" * 2)
    assert asyncio.run(given.load()) == b"0123456789abcdef" * 2
    with pytest.raises(BadInput, match="openssl") as caught:
        SigningSecret(open_store(None, tmp_path), "too short")
    assert "too short" not in str(caught.value)
