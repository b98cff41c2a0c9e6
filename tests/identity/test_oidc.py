"""Tokens of OpenID Connect against an issuer on loopback with real keys: which are taken, and what each trick gets."""

import asyncio
import base64
import hashlib
import hmac
import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from pydantic import ValidationError

from segserve.app.issuer_documents import MAX_DOCUMENT_BYTES, IssuerDocuments
from segserve.errors import MissingDependency, SegserveError, Unauthenticated
from segserve.identity import issuer_keys
from segserve.identity.identity import Identity
from segserve.identity.issuer_keys import IssuerKeys, IssuerUnavailable
from segserve.identity.oidc import MAX_TOKEN_CHARACTERS, TokenAuthenticator
from segserve.identity.oidc_issuer import OidcIssuer
from segserve.types import AccessRole
from tests.http_listener import listening
from tests.identity.fake_issuer import AUDIENCE, FakeIssuer, rsa_key

ANNA = Identity("lab-a", AccessRole.ANNOTATOR, "anna")
NOW = int(time.time())
DAY_S = 86400
BYTES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \0é"


@pytest.fixture(scope="module")
def running() -> Iterator[FakeIssuer]:
    issuer = FakeIssuer()
    with listening(issuer):
        yield issuer


@pytest.fixture
def issuer(running: FakeIssuer) -> Iterator[FakeIssuer]:
    keys = dict(running.keys)
    running.fetched.clear()
    yield running
    running.keys, running.documents, running.status = keys, {}, 200


def configure(issuer: FakeIssuer, **options: Any) -> OidcIssuer:
    return OidcIssuer(issuer=issuer.url, audience=AUDIENCE, **options)


@cache
def documents(url: str) -> IssuerDocuments:
    """What fetches: one for all tests, since each makes a TLS context."""
    return IssuerDocuments([OidcIssuer(issuer=url, audience=AUDIENCE)])


def create(issuer: FakeIssuer, **options: Any) -> TokenAuthenticator:
    return TokenAuthenticator([configure(issuer, **options)], documents(issuer.url).fetch)


def authenticate(issuer: FakeIssuer, token: str, **options: Any) -> Identity:
    return asyncio.run(create(issuer, **options).authenticate(token))


@contextmanager
def refused(reason: str) -> Iterator[None]:
    with pytest.raises(Unauthenticated, match=reason) as caught:
        yield
    assert caught.value.remedy


def encode(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# Tokens that are good.


@pytest.mark.parametrize(
    ("key_id", "algorithm"),
    [("rsa", "RS256"), ("rsa", "RS512"), ("rsa", "PS256"), ("ec", "ES256"), ("ed", "EdDSA")],
)
def test_a_signed_token_names_tenant_role_and_subject(
    issuer: FakeIssuer, key_id: str, algorithm: str
) -> None:
    assert authenticate(issuer, issuer.token(key_id, algorithm)) == ANNA


def test_claims_are_found_where_the_settings_say(issuer: FakeIssuer) -> None:
    token = issuer.token(
        tenant=None,
        role=None,
        realm_access={"roles": ["offline_access", "seg-annotators", "seg-admins"]},
        **{"https://example.org/organisation": "Université"},
    )
    options: dict[str, Any] = {
        "tenant_claim": "https://example.org/organisation",
        "tenants": {"Université": "universite"},
        "role_claim": "realm_access.roles",
        "roles": {"seg-annotators": "annotator", "seg-admins": "operator"},
    }
    assert authenticate(issuer, token, **options) == Identity("universite", AccessRole.OPERATOR, "anna")
    with refused("no tenant in its claim"):
        authenticate(issuer, token, **{**options, "tenants": {"Other": "other"}})
    with refused("no role in its claim"):
        authenticate(issuer, token, **{**options, "roles": {"admins": "operator"}})


def test_several_audiences_and_several_issuers(issuer: FakeIssuer) -> None:
    assert authenticate(issuer, issuer.token(aud=["other", AUDIENCE])) == ANNA
    other = FakeIssuer()
    with listening(other):
        configured = [configure(issuer), configure(other, role_claim="groups")]
        authenticator = TokenAuthenticator(configured, IssuerDocuments(configured).fetch)
        # The ids of the keys are the same; the keys are not.
        issuer.keys["ec"], other.keys["rsa"] = other.keys["ec"], rsa_key(2)
        forged = jwt.encode(other.claims(iss=issuer.url), other.keys["rsa"], "RS256", {"kid": "rsa"})

        async def ask() -> list[Identity]:
            tokens = (issuer.token(), other.token(sub="bert", groups=["batch"]))
            found = [await authenticator.authenticate(token) for token in tokens]
            with refused("cannot be verified"):
                await authenticator.authenticate(forged)
            return found

        assert asyncio.run(ask()) == [ANNA, Identity("lab-a", AccessRole.BATCH, "bert")]


def test_clocks_may_differ_a_little(issuer: FakeIssuer) -> None:
    now = int(time.time())
    assert authenticate(issuer, issuer.token(exp=now - 20)) == ANNA
    assert authenticate(issuer, issuer.token(nbf=now + 20, iat=now + 20)) == ANNA
    with refused("has expired"):
        authenticate(issuer, issuer.token(exp=now - 20), clock_skew_s=0)


# Tokens that are not.


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW - DAY_S}, "has expired"),
        ({"exp": None}, "no claim 'exp'"),
        ({"exp": "soon"}, "cannot be verified"),
        ({"exp": [NOW]}, "cannot be verified"),
        ({"nbf": NOW + DAY_S}, "not valid yet"),
        ({"iat": NOW + DAY_S}, "not valid yet"),
        ({"aud": "another"}, "another audience"),
        ({"aud": []}, "no claim 'aud'|another audience"),
        ({"aud": None}, "no claim 'aud'"),
        ({"aud": {"segserve": True}}, "another audience"),
        ({"iss": "https://accounts.example.org"}, "issuer that is not accepted"),
        ({"iss": None}, "issuer that is not accepted"),
        ({"iss": ["x"]}, "issuer that is not accepted|cannot be verified"),
        ({"sub": None}, "no claim 'sub'"),
        ({"sub": ""}, "no subject"),
        ({"sub": "a\nb"}, "no subject"),
        ({"sub": "a" * 300}, "no subject"),
        ({"tenant": None}, "no tenant in its claim 'tenant'"),
        ({"tenant": "../other"}, "no tenant"),
        ({"tenant": "lab-a\n"}, "no tenant"),
        ({"tenant": ["lab-a"]}, "no tenant"),
        ({"tenant": ""}, "no tenant"),
        ({"role": None}, "no role in its claim 'role'"),
        ({"role": "admin"}, "no role"),
        ({"role": {"annotator": True}}, "no role"),
        ({"role": [["annotator"]]}, "no role"),
        ({"role": True}, "no role"),
    ],
)
def test_claims_that_are_refused(issuer: FakeIssuer, claims: dict[str, Any], reason: str) -> None:
    body = json.dumps(issuer.claims(**claims)).encode()
    with refused(reason):
        authenticate(issuer, jwt.api_jws.encode(body, issuer.keys["rsa"], "RS256", {"kid": "rsa"}))


def test_tokens_without_a_signature_are_refused(issuer: FakeIssuer) -> None:
    for algorithm in ("none", "None", "NONE", "nOnE", ""):
        for signature in ("", encode(b"x")):
            header = {"alg": algorithm, "typ": "JWT", "kid": "rsa"}
            with refused("not signed by a public key's owner|not a JSON Web Token"):
                authenticate(issuer, f"{encode(header)}.{encode(issuer.claims())}.{signature}")
    head, body, _ = issuer.token().split(".")
    with refused("cannot be verified"):
        authenticate(issuer, f"{head}.{body}.")


def test_a_public_key_is_no_secret_to_sign_by(issuer: FakeIssuer) -> None:
    """RS/HS confusion: the attacker takes the published key for the secret of an HMAC."""
    public = issuer.keys["rsa"].public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    for secret in (
        public.public_bytes(serialization.Encoding.PEM, form),
        public.public_bytes(serialization.Encoding.DER, form),
        json.dumps(issuer.jwks()["keys"][0]).encode(),
    ):
        for algorithm, digest, reason in (
            ("HS256", hashlib.sha256, "not signed by a public key's owner"),
            ("HS512", hashlib.sha512, "not signed by a public key's owner"),
            ("RS256", hashlib.sha256, "cannot be verified"),
        ):
            signed = f"{encode({'alg': algorithm, 'kid': 'rsa'})}.{encode(issuer.claims())}"
            with refused(reason):
                authenticate(issuer, f"{signed}.{encode(hmac.digest(secret, signed.encode(), digest))}")


def test_a_symmetric_key_in_the_jwks_is_not_used(issuer: FakeIssuer) -> None:
    secret = b"0" * 64
    keys = {"keys": [{"kty": "oct", "kid": "oct", "k": encode(secret)}, *issuer.jwks()["keys"]]}
    issuer.documents["/keys"] = json.dumps(keys).encode()
    with refused("not signed by a public key's owner"):
        authenticate(issuer, jwt.encode(issuer.claims(), secret, "HS256", {"kid": "oct"}))
    with refused("a key that its issuer does not have"):
        authenticate(issuer, issuer.token(headers={"kid": "oct"}))


@pytest.mark.parametrize(
    "headers",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"jwk": jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(2).public_key(), as_dict=True)},
        {"jku": "https://evil.example.org/keys"},
        {"x5u": "https://evil.example.org/certificate"},
        {"x5c": ["MII"]},
        {"b64": True},
        {"zip": "DEF"},
    ],
    ids=lambda headers: str(*headers),
)
def test_a_token_brings_no_key_and_no_rules_of_its_own(issuer: FakeIssuer, headers: dict[str, Any]) -> None:
    head = {"alg": "RS256", "kid": "rsa", **headers}
    signed = f"{encode(head)}.{encode(issuer.claims())}"
    for key in (rsa_key(1), rsa_key(2)):
        signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(signed.encode(), key)
        with refused("brings a key of its own|not a JSON Web Token"):
            authenticate(issuer, f"{signed}.{encode(signature)}")
    assert issuer.fetched == []


def test_keys_of_another_kind_or_of_none(issuer: FakeIssuer) -> None:
    with refused("signed by a key that its issuer does not have"):
        authenticate(issuer, issuer.token(headers={"kid": "unknown"}))
    for kid in ("ec", "ed"):
        with refused("a signature that its key cannot make"):
            authenticate(issuer, issuer.token(headers={"kid": kid}))
    for missing in (None, "", 7, ["rsa"], "x" * 300):
        head = {"alg": "RS256", **({} if missing is None else {"kid": missing})}
        with refused("does not name its key|not a JSON Web Token"):
            authenticate(issuer, f"{encode(head)}.{encode(issuer.claims())}.{encode(b'x' * 256)}")
    with refused("cannot be verified"):  # the id of one key, the signature of another
        authenticate(issuer, jwt.encode(issuer.claims(), rsa_key(2), "RS256", {"kid": "rsa"}))
    with refused("is of another type"):
        authenticate(issuer, issuer.token(headers={"typ": "JOSE"}))


@pytest.mark.filterwarnings("ignore:The RSA key is:Warning")
def test_a_short_key_is_refused(issuer: FakeIssuer) -> None:
    issuer.keys["short"] = rsa_key(3, 1024)
    with refused("too short"):
        authenticate(issuer, issuer.token("short"))


def test_a_key_for_encryption_or_for_another_signature_is_not_used(issuer: FakeIssuer) -> None:
    [key, *others] = issuer.jwks()["keys"]
    changes: list[dict[str, Any]] = [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "RSA-OAEP"}]
    for changed in (*changes, {"kid": None}, {"kty": "x"}, {"kty": []}, {"alg": []}):
        issuer.documents["/keys"] = json.dumps({"keys": [{**key, **changed}, *others]}).encode()
        with refused("a key that its issuer does not have"):
            authenticate(issuer, issuer.token())
    issuer.documents["/keys"] = json.dumps({"keys": [{**key, "alg": "RS512"}]}).encode()
    with refused("a signature that its key cannot make"):
        authenticate(issuer, issuer.token())


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "é.è.à",
        "\ud800..",
        "a" * (MAX_TOKEN_CHARACTERS + 1),
        "[" * 9000 + "..",
        f"{encode([1])}.{encode({})}.{encode(b'x')}",
        f"{encode({'alg': 'RS256', 'kid': 'rsa'})}.{encode([1])}.{encode(b'x')}",
        f"{encode({'alg': 'RS256', 'kid': 'rsa'})}.{encode(b'[' * 6000)}.{encode(b'x')}",
        f"{encode(b'[' * 6000)}.{encode({})}.",
        f"{encode(bytes([255, 254]))}.{encode(bytes([255]))}.",
    ],
    ids=range(13),
)
def test_what_is_no_token_is_refused(issuer: FakeIssuer, token: str) -> None:
    with refused("not a JSON Web Token|too long"):
        authenticate(issuer, token)
    assert issuer.fetched == [], "the issuer is not asked for it"


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "9" * 5000, "true", "null"])
def test_odd_numbers_in_times_are_refused(issuer: FakeIssuer, number: str) -> None:
    """They are signed all the same: an issuer may be odd, and no answer is a 500."""
    body = json.dumps(issuer.claims(exp=None))
    token = jwt.api_jws.encode(
        f'{body[:-1]}, "exp": {number}}}'.encode(), issuer.keys["rsa"], "RS256", {"kid": "rsa"}
    )
    with refused("expired|verified|not a JSON Web Token|no claim 'exp'"):
        authenticate(issuer, token)


def read_content(token: str) -> tuple[bytes, ...]:
    """What a token says and its signature: other spellings of the same base64 change nothing."""
    return tuple(base64.urlsafe_b64decode(part + "==") for part in token.split("."))


def mutate(text: str, dice: random.Random) -> str:
    characters = list(text)
    for _ in range(dice.choice((1, 1, 2, 8))):
        place = dice.randrange(len(characters))
        act = dice.randrange(3)
        if act == 0:
            characters[place] = dice.choice(BYTES)
        elif act == 1:
            del characters[place : place + dice.randrange(1, 4)]
        else:
            characters.insert(place, dice.choice(BYTES))
    return "".join(characters)


def test_mutated_tokens_are_refused_and_nothing_else_happens(issuer: FakeIssuer) -> None:
    """Any change of a signed token is refused, and no other error leaves the authenticator."""
    dice = random.Random(0)
    authenticator = create(issuer)
    good = [issuer.token(), issuer.token("ec", "ES256"), issuer.token("ed", "EdDSA")]

    async def ask_all() -> None:
        for _ in range(1500):
            source = dice.choice(good)
            token = mutate(source, dice)
            try:
                identity = await authenticator.authenticate(token)
            except Unauthenticated:
                continue
            assert identity == ANNA
            assert read_content(token) == read_content(source), "a change was taken"
        for _ in range(300):  # parts of one with those of another
            mixed = ".".join(dice.choice(good).split(".")[number] for number in range(3))
            if mixed not in good:
                try:
                    await authenticator.authenticate(mixed)
                except Unauthenticated:
                    continue
                assert read_content(mixed) in [read_content(token) for token in good]

    asyncio.run(ask_all())
    assert len(issuer.fetched) <= 4, "made-up key ids do not make us ask the issuer again and again"


# The keys of the issuer.


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_keys_are_fetched_once_and_again_for_a_new_one(issuer: FakeIssuer) -> None:
    clock = Clock()
    keys = IssuerKeys(configure(issuer), documents(issuer.url).fetch, clock)
    rounds = ["/.well-known/openid-configuration", "/keys"]

    async def follow() -> None:
        found = await asyncio.gather(*(keys.find("rsa") for _ in range(20)))
        assert all(found)
        assert issuer.fetched == rounds, "once, though twenty waited"
        issuer.keys["new"] = rsa_key(2)
        for _ in range(5):
            assert await keys.find("new") is None, "it was asked a moment ago"
        assert issuer.fetched == rounds
        clock.now += issuer_keys.MIN_REFRESH_INTERVAL_S
        assert await keys.find("new")
        assert issuer.fetched == 2 * rounds
        for number in range(50):
            assert await keys.find(f"made-up-{number}") is None
        assert issuer.fetched == 2 * rounds
        del issuer.keys["new"]
        clock.now += issuer_keys.MAX_KEYS_AGE_S + 1
        assert await keys.find("new") is None, "withdrawn"

    asyncio.run(follow())


def test_a_client_that_goes_away_does_not_stop_the_fetch(issuer: FakeIssuer) -> None:
    fetch = documents(issuer.url).fetch
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def fetch_late(url: str) -> bytes:
        begun.set()
        await go_on.wait()
        return await fetch(url)

    async def follow() -> None:
        keys = IssuerKeys(configure(issuer), fetch_late, Clock())
        client = asyncio.create_task(keys.find("bogus"))
        await begun.wait()
        client.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client
        go_on.set()
        assert await keys.find("rsa")

    asyncio.run(follow())


def test_known_keys_outlast_an_issuer_that_is_away(issuer: FakeIssuer) -> None:
    clock = Clock()
    keys = IssuerKeys(configure(issuer), documents(issuer.url).fetch, clock)

    async def follow() -> None:
        issuer.status = 503
        with pytest.raises(IssuerUnavailable) as caught:
            await keys.find("rsa")
        assert "127.0.0.1" not in str(caught.value)
        with pytest.raises(IssuerUnavailable):
            await keys.find("rsa")
        assert len(issuer.fetched) == 1, "it was asked a moment ago"
        issuer.status = 200
        clock.now += issuer_keys.MIN_REFRESH_INTERVAL_S
        assert await keys.find("rsa")
        issuer.status = 503
        clock.now += issuer_keys.MAX_KEYS_AGE_S + 1
        assert await keys.find("rsa")
        clock.now += issuer_keys.MAX_STALE_S
        with pytest.raises(IssuerUnavailable):
            await keys.find("rsa")

    asyncio.run(follow())


ABOUT = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (ABOUT, b"<html>"),
        (ABOUT, b"[" * 100_000),
        (ABOUT, b"[]"),
        (ABOUT, b'{"issuer": "https://another.example.org", "jwks_uri": "ISSUER/keys"}'),
        (ABOUT, b'{"issuer": "ISSUER", "jwks_uri": "http://192.0.2.1/keys"}'),
        (ABOUT, b'{"issuer": "ISSUER", "jwks_uri": "file:///etc/passwd"}'),
        (ABOUT, b'{"issuer": "ISSUER", "jwks_uri": "https://10.0.0.1/keys"}'),
        (ABOUT, b'{"issuer": "ISSUER", "jwks_uri": 7}'),
        ("/keys", b'{"keys": {}}'),
        ("/keys", b"\xff"),
        ("/keys", b" " * (MAX_DOCUMENT_BYTES + 1)),
    ],
    ids=range(11),
)
def test_documents_that_are_no_keys(issuer: FakeIssuer, path: str, document: bytes) -> None:
    issuer.documents[path] = document.replace(b"ISSUER", issuer.url.encode())
    with pytest.raises(IssuerUnavailable):
        authenticate(issuer, issuer.token())


def test_redirects_of_an_issuer_are_not_followed(issuer: FakeIssuer) -> None:
    issuer.status = 302
    with pytest.raises(SegserveError):
        asyncio.run(documents(issuer.url).fetch(f"{issuer.url}/keys"))


# What a click pays.


def test_a_known_token_is_not_verified_again_until_it_is_about_to_expire(issuer: FakeIssuer) -> None:
    clock = Clock(time.time())
    configured = [configure(issuer, clock_skew_s=0)]
    authenticator = TokenAuthenticator(configured, IssuerDocuments(configured).fetch, clock)
    token = issuer.token(exp=int(clock.now) + 120)

    async def follow() -> None:
        assert await authenticator.authenticate(token) == ANNA
        _, until = await authenticator.verify(token)
        assert clock.now < until < clock.now + 120
        verified = 0

        async def count(*_: object) -> tuple[dict[str, Any], OidcIssuer]:
            nonlocal verified
            verified += 1
            raise Unauthenticated("again")

        authenticator._verify_claims = count  # type: ignore[method-assign]
        assert await authenticator.authenticate(token) == ANNA
        clock.now = until + 0.1
        with pytest.raises(Unauthenticated, match="again"):
            await authenticator.authenticate(token)
        assert verified == 1

    asyncio.run(follow())


def test_tokens_are_told_from_keys_by_their_form(issuer: FakeIssuer) -> None:
    authenticator = create(issuer)
    assert authenticator.recognises(issuer.token())
    assert not authenticator.recognises("segserve_a1b2c3_0123456789abcdef")


# Settings.


@pytest.mark.parametrize(
    "url",
    [
        "accounts.example.org",
        "http://accounts.example.org",
        "ftp://accounts.example.org",
        "https://",
        "https://user@accounts.example.org",
        "https://accounts.example.org/#x",
        "http://127.0.0.1.example.org",
        "https://[",
    ],
)
def test_issuers_that_others_could_speak_for_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="https"):
        OidcIssuer(issuer=url, audience="segserve")


def test_settings_of_an_issuer_are_checked() -> None:
    for wrong in ({"audience": ""}, {"tenants": {"a": "../b"}}, {"roles": {"a": "root"}}, {"realm": "x"}):
        with pytest.raises(ValidationError):
            OidcIssuer.model_validate(
                {"issuer": "https://accounts.example.org", "audience": "segserve", **wrong}
            )
    for url in (
        "http://127.0.0.1:8080/realms/a",
        "http://localhost:1",
        "http://[::1]:1",
        "https://a.example",
    ):
        OidcIssuer(issuer=url, audience="segserve")


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    issuer = OidcIssuer(issuer="https://accounts.example.org", audience="segserve")
    with pytest.raises(MissingDependency, match="oidc"):
        TokenAuthenticator([issuer], IssuerDocuments([issuer]).fetch)
