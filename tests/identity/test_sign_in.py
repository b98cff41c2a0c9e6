"""Signing in by the authorization code flow, against issuers on loopback that check what a real one checks."""

import asyncio
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from pydantic import ValidationError

from segserve.app.authentication import check_sign_ins
from segserve.app.issuer_documents import IssuerDocuments
from segserve.errors import BadInput, NotFound
from segserve.identity.identity import Identity
from segserve.identity.issuer_keys import IssuerUnavailable
from segserve.identity.oidc import TokenAuthenticator
from segserve.identity.oidc_issuer import OidcIssuer
from segserve.identity.sign_in import MAX_ATTEMPT_S, RETRY_METADATA_S, SignInFailed, SignIns
from segserve.identity.signer import Signers
from segserve.types import AccessRole
from tests.http_listener import listening
from tests.identity.fake_issuer import AUDIENCE, CALLBACK, CLIENT, CLIENT_SECRET, FakeIssuer

SERVICE = "http://segserve.test"
ANNA = Identity("lab-a", AccessRole.ANNOTATOR, "anna")


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FakeIssuer, FakeIssuer]]:
    first, second = FakeIssuer(), FakeIssuer()
    second.name = "Other"
    with listening(first), listening(second):
        yield first, second


@pytest.fixture
def issuer(running: tuple[FakeIssuer, FakeIssuer]) -> Iterator[FakeIssuer]:
    metadata, keys = dict(running[0].metadata), dict(running[0].keys)
    yield running[0]
    issuer = running[0]
    issuer.metadata, issuer.keys, issuer.documents, issuer.status = metadata, keys, {}, 200
    issuer.secret, issuer.signed_in, issuer.answer_with = None, {}, None
    issuer.posted.clear()


@cache
def documents(*urls: str) -> IssuerDocuments:
    return IssuerDocuments([OidcIssuer(issuer=url, audience=AUDIENCE) for url in urls])


async def load_secret() -> bytes:
    return b"s" * 32


class World:
    """A service that knows the issuers, and one browser, which keeps one cookie. now: the service's clock."""

    def __init__(self, *issuers: FakeIssuer, **options: Any) -> None:
        self.now = 1000.0
        known = [
            OidcIssuer(issuer=each.url, audience=AUDIENCE, client_id=CLIENT, name=each.name, **options)
            for each in issuers
        ]
        calls = documents(*(each.url for each in issuers))
        tokens = TokenAuthenticator(known, calls.fetch)
        self.sign_ins = SignIns(
            known, tokens, Signers(load_secret), calls.fetch, calls.post, lambda: self.now
        )
        self.cookie: str | None = None

    def begin(self, name: str = "Fake") -> str:
        address, self.cookie = asyncio.run(self.sign_ins.begin(name, SERVICE + CALLBACK.format(name)))
        return address

    def finish(self, name: str = "Fake", service: str = SERVICE, **parameters: str) -> Identity:
        redirect_uri = service + CALLBACK.format(name)
        return asyncio.run(self.sign_ins.finish(name, redirect_uri, parameters, self.cookie))

    def sign_in(self) -> Identity:
        return self.finish(**visit(self.begin()))

    def fail(self, problem: str, name: str = "Fake", **parameters: str) -> SignInFailed:
        with pytest.raises(SignInFailed) as caught:
            self.finish(name, **parameters)
        assert (caught.value.problem, bool(caught.value.remedy)) == (problem, True)
        return caught.value


def visit(address: str) -> dict[str, str]:
    """Follow an address to the issuer, and return the parameters with which it sends the browser back."""
    answer = httpx.get(address)
    assert answer.status_code == 303, answer
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


def test_who_comes_back_is_who_has_signed_in(issuer: FakeIssuer) -> None:
    world = World(issuer)
    address = world.begin()
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert asked["redirect_uri"] == "http://segserve.test/v1/login/issuers/Fake/callback"
    assert (asked["client_id"], asked["scope"], asked["response_type"]) == (CLIENT, "openid", "code")
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert asked["code_challenge_method"] == "S256"
    found = world.finish(**visit(address))
    assert (found, found.expires, found.key_id) == (ANNA, None, ""), "how long it counts the service says"
    [form] = issuer.posted
    assert form["client_id"] == CLIENT
    assert "client_secret" not in form


def test_each_attempt_is_another_one(issuer: FakeIssuer) -> None:
    world = World(issuer)
    asked = [parse_qs(urlsplit(world.begin()).query) for _ in range(2)]
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name]


@pytest.mark.parametrize(
    ("methods", "in_form"), [(None, False), (["client_secret_basic"], False), (["client_secret_post"], True)]
)
def test_a_client_with_a_secret_shows_it(
    issuer: FakeIssuer, tmp_path: Path, methods: list[str] | None, in_form: bool
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("an old one\n")
    issuer.secret = CLIENT_SECRET
    if methods is not None:
        issuer.metadata["token_endpoint_auth_methods_supported"] = methods
    world = World(issuer, client_secret_file=secret)
    world.fail("refused", **visit(world.begin()))
    secret.write_text(f"{CLIENT_SECRET}\n")
    assert world.sign_in() == ANNA, "a new secret needs no restart"
    assert ("client_secret" in issuer.posted[-1]) is in_form
    secret.unlink()
    world.fail("refused", **visit(world.begin()))


def test_another_state_is_refused_before_the_issuer_is_asked(issuer: FakeIssuer) -> None:
    world = World(issuer)
    back = visit(world.begin())
    for state in ("", "wrong", back["state"][:-1], back["state"] + "A", "é"):
        world.fail("ended", **{**back, "state": state})
    back.pop("state")
    world.fail("ended", **back)
    assert issuer.posted == []


def test_an_answer_to_another_browser_is_refused(issuer: FakeIssuer) -> None:
    """An attacker lets a victim's browser follow the end of the attacker's own sign-in."""
    attacker, victim = World(issuer), World(issuer)
    back = visit(attacker.begin())
    victim.fail("ended", **back)
    victim.begin()
    victim.fail("ended", **back)
    for cookie in ("", "a.b", f"{attacker.cookie}x", "é.ü"):
        victim.cookie = cookie
        victim.fail("ended", **back)
    assert issuer.posted == []
    assert attacker.finish(**back) == ANNA


def test_a_code_counts_once(issuer: FakeIssuer) -> None:
    world = World(issuer)
    back = visit(world.begin())
    assert world.finish(**back) == ANNA
    world.fail("refused", **back)


def test_a_stolen_code_is_worth_nothing_to_another_attempt(issuer: FakeIssuer) -> None:
    """PKCE: the attacker has the code, and a browser with an attempt of its own."""
    victim, attacker = World(issuer), World(issuer)
    stolen = visit(victim.begin())["code"]
    own = visit(attacker.begin())
    attacker.fail("refused", **{**own, "code": stolen})


def test_a_token_of_another_attempt_is_refused(issuer: FakeIssuer) -> None:
    world = World(issuer)
    for nonce in ("another", None, 5):
        issuer.signed_in = {"nonce": nonce}
        world.fail("refused", **visit(world.begin()))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": AUDIENCE},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"azp": "another"},
        {"iss": "https://another.example.org"},
        {"exp": 1},
        {"headers": {"kid": "unknown"}},
        {"headers": {"jku": "https://evil.example.org"}},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_this_client_is_refused(issuer: FakeIssuer, claims: dict[str, Any]) -> None:
    issuer.signed_in = claims
    world = World(issuer)
    world.fail("refused", **visit(world.begin()))


def test_a_token_for_several_says_who_asked_for_it(issuer: FakeIssuer) -> None:
    issuer.signed_in = {"aud": [CLIENT, "another"], "azp": CLIENT}
    assert World(issuer).sign_in() == ANNA


@pytest.mark.parametrize(
    "claims", [{"role": None}, {"role": "guest"}, {"tenant": None}, {"tenant": "No!"}], ids=str
)
def test_who_has_no_tenant_or_role_here_is_told_so(issuer: FakeIssuer, claims: dict[str, Any]) -> None:
    issuer.signed_in = claims
    world = World(issuer)
    world.fail("no_access", **visit(world.begin()))


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        ("access_denied", "denied"),
        ("login_required", "denied"),
        ("temporarily_unavailable", "away"),
        ("server_error", "away"),
        ("unauthorized_client", "refused"),
        ("<script>", "refused"),
        ("", "refused"),
    ],
)
def test_errors_of_the_issuer_are_told(issuer: FakeIssuer, error: str, problem: str) -> None:
    issuer.answer_with = {"error": error, "error_description": "call 555-0100"}
    world = World(issuer)
    failure = world.fail(problem, **visit(world.begin()))
    assert "555" not in str(failure)
    assert issuer.posted == []


def test_an_error_counts_only_with_the_state_of_the_attempt(issuer: FakeIssuer) -> None:
    world = World(issuer)
    world.begin()
    world.fail("ended", error="access_denied", state="wrong")


def test_an_attempt_ends(issuer: FakeIssuer) -> None:
    world = World(issuer)
    back = visit(world.begin())
    world.now += MAX_ATTEMPT_S
    world.fail("ended", **back)


# Mix-up: of two issuers one is an attacker's, who wants the codes of the other.


def test_the_code_of_one_issuer_is_never_sent_to_another(running: tuple[FakeIssuer, FakeIssuer]) -> None:
    honest, evil = running
    world = World(honest, evil)
    begun = world.begin("Other")  # the user has chosen the evil one, which leads on to the honest one
    asked = dict(parse_qsl(urlsplit(begun).query))
    forwarded = httpx.get(f"{honest.url}/authorize", params=asked)
    assert forwarded.status_code == 400, "the honest one knows another address of the service"
    asked["redirect_uri"] = SERVICE + CALLBACK.format("Fake")
    back = visit(f"{honest.url}/authorize?{httpx.QueryParams(asked)}")
    world.fail("refused", "Fake", **back)  # at the honest one's address: another attempt than was begun
    world.fail("refused", "Other", **back)  # at the evil one's: `iss` names the honest one
    assert evil.posted == honest.posted == []


@pytest.mark.parametrize("iss", ["https://another.example.org", "", None])
def test_an_issuer_that_names_itself_must_do_so(issuer: FakeIssuer, iss: str | None) -> None:
    world = World(issuer)
    back = visit(world.begin())
    back.pop("iss")
    world.fail("refused", **back | ({} if iss is None else {"iss": iss}))
    assert issuer.posted == []


def test_an_issuer_that_does_not_name_itself_is_told_by_its_address(issuer: FakeIssuer) -> None:
    issuer.metadata = {}
    world = World(issuer)
    back = visit(world.begin())
    back.pop("iss")
    assert world.finish(**back) == ANNA


def test_the_answer_must_come_back_to_the_address_that_was_asked_for(issuer: FakeIssuer) -> None:
    world = World(issuer)
    back = visit(world.begin())
    with pytest.raises(SignInFailed, match="another address"):
        world.finish(service="http://rebound.example.org", **back)
    assert issuer.posted == []


# Issuers that are away, or answer something else.


def test_an_issuer_that_is_away_is_told(issuer: FakeIssuer) -> None:
    issuer.status = 503
    issuer.fetched.clear()
    world = World(issuer)
    for _ in range(3):
        with pytest.raises(IssuerUnavailable):
            world.begin()
    assert len(issuer.fetched) == 1, "it is not asked again at once"
    issuer.status = 200
    world.now += RETRY_METADATA_S
    back = visit(world.begin())
    issuer.documents["/keys"] = b"nonsense"
    world.fail("away", **back)


@pytest.mark.parametrize(
    "metadata",
    [
        {"token_endpoint": None},
        {"token_endpoint": "http://login.example.org/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"issuer": "https://another.example.org"},
    ],
    ids=str,
)
def test_a_discovery_document_that_cannot_be_trusted_is_not_used(
    issuer: FakeIssuer, metadata: dict[str, Any]
) -> None:
    issuer.metadata |= metadata
    with pytest.raises(IssuerUnavailable):
        World(issuer).begin()


def test_an_unknown_issuer_is_not_found(issuer: FakeIssuer) -> None:
    with pytest.raises(NotFound, match="'Another'"):
        World(issuer).begin("Another")


# Settings.


def test_settings_name_what_is_wrong(tmp_path: Path) -> None:
    def issuer(**options: Any) -> OidcIssuer:
        return OidcIssuer(issuer="https://login.example.org/realms/a", audience="a", **options)

    assert issuer(client_id="c").sign_in_name == "login.example.org"
    for options, message in (
        ({"client_id": "c", "scopes": ["profile"]}, "openid"),
        ({"client_id": "c", "name": "a/b"}, "a name has"),
        ({"client_secret_file": "x"}, "need a client_id"),
    ):
        with pytest.raises(ValidationError, match=message):
            issuer(**options)
    with pytest.raises(BadInput, match="same name"):
        check_sign_ins([issuer(client_id="a", name="Lab"), issuer(client_id="b", name="lab")])
    empty = tmp_path / "secret"
    empty.touch()
    for path in (empty, tmp_path / "missing"):
        with pytest.raises(BadInput, match="holds no secret"):
            check_sign_ins([issuer(client_id="a", client_secret_file=path)])
