"""Tokens of OpenID Connect: JWTs that a configured issuer has signed become identities.

PyJWT verifies signatures and times. What it leaves open is decided here: a token says by its header what to verify it
by, so a header that names anything but an asymmetric signature and the id of a key of its issuer is refused.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NoReturn

from cachetools import LRUCache

from segserve.errors import MissingDependency, Unauthenticated
from segserve.identity.identity import Identity
from segserve.identity.issuer_keys import (
    ALGORITHMS,
    MIN_RSA_BITS,
    IssuerKeys,
    JsonWebKey,
    algorithms_of,
)
from segserve.identity.issuer_metadata import Fetch
from segserve.identity.oidc_issuer import OidcIssuer
from segserve.identity.tenant_name import is_tenant_name
from segserve.types import AccessRole

# Issuers that list all groups of a user write a few KB. All headers of a request have 32 KiB.
MAX_TOKEN_CHARACTERS = 16 << 10
MAX_KEY_ID_CHARACTERS = 256
MAX_NAME_CHARACTERS = 200
# Tokens that are known to be good, each for so long, and not quite until it expires.
MAX_CACHED_TOKENS = 4096
MAX_CACHED_S = 300.0
CACHE_MARGIN_S = 5.0
# Header members by which a token brings its own key, or changes how it is to be read.
REFUSED_MEMBERS = ("crit", "jwk", "jku", "x5c", "x5u", "b64", "zip", "enc")
TOKEN_TYPES = ("jwt", "at+jwt", "application/at+jwt")
# Of several roles the one that may do most counts.
ROLES = (AccessRole.OPERATOR, AccessRole.ANNOTATOR, AccessRole.BATCH, AccessRole.METRICS)
# What PyJWT lets through of what broken tokens raise.
BROKEN = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def refuse(reason: str) -> NoReturn:
    """Raise Unauthenticated. reason: ends the sentence that begins with "The token"."""
    raise Unauthenticated(f"The token {reason}.", remedy="Get a new token of its issuer, and send that.")


class TokenAuthenticator:
    """`TokenAuthenticator` makes identities of tokens.

    fetch: fetches documents of issuers. clock: seconds since the epoch.

    Raises MissingDependency without PyJWT, which the extra `oidc` brings.
    """

    def __init__(
        self, issuers: Sequence[OidcIssuer], fetch: Fetch, clock: Callable[[], float] = time.time
    ) -> None:
        try:
            import jwt
        except ImportError:
            raise MissingDependency("PyJWT", "oidc", "Reading tokens of OpenID Connect") from None
        self._jwt = jwt
        self._issuers = {issuer.issuer: (issuer, IssuerKeys(issuer, fetch)) for issuer in issuers}
        self._clock = clock
        # The digest of a token: its identity, and until when that counts.
        self._known: LRUCache[bytes, tuple[Identity, float]] = LRUCache(MAX_CACHED_TOKENS)

    def recognises(self, credential: str) -> bool:
        """Return whether a credential has the form of a token: keys of segserve have no dots."""
        return credential.count(".") == 2

    async def watch(self) -> None:
        """Nothing is watched: keys of issuers are fetched when a token needs them."""

    async def authenticate(self, token: str) -> Identity:
        """Return whose token it is. Raises Unauthenticated, and IssuerUnavailable where its keys cannot be fetched."""
        identity, _ = await self.verify(token)
        return identity

    async def verify(self, token: str) -> tuple[Identity, float]:
        """Return whose token it is, and until when this answer counts, in seconds since the epoch.

        Raises as `authenticate` does.
        """
        if len(token) > MAX_TOKEN_CHARACTERS:
            refuse("is too long")
        digest = sha256(token.encode("utf-8", "replace")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known[1]:
            return known
        claims, issuer = await self._verify_claims(token, self._issuers)
        until = min(float(claims["exp"]) - CACHE_MARGIN_S, self._clock() + MAX_CACHED_S)
        found = self._known[digest] = read_identity(claims, issuer), until
        return found

    async def verify_id_token(self, token: str, issuer: OidcIssuer, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token, which an issuer has made for this service when somebody signed in.

        nonce: that the sign-in began with. Raises Unauthenticated and IssuerUnavailable, as `authenticate` does.
        """
        if len(token) > MAX_TOKEN_CHARACTERS:
            refuse("is too long")
        accepted = {issuer.issuer: self._issuers[issuer.issuer]}
        claims, _ = await self._verify_claims(token, accepted, audience=issuer.client_id)
        if claims.get("nonce") != nonce:
            refuse("was made for another sign-in")
        # Of several audiences `azp` says which one asked for it (OpenID Connect Core 1.0, 3.1.3.7).
        has_several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if has_several else issuer.client_id) != issuer.client_id:
            refuse("was made for another client")
        return claims

    async def _verify_claims(
        self, token: str, issuers: Mapping[str, tuple[OidcIssuer, IssuerKeys]], audience: str | None = None
    ) -> tuple[dict[str, Any], OidcIssuer]:
        """audience: in place of the issuer's own."""
        header, named_issuer = self._read_unverified(token)
        algorithm, key_id = check_header(header)
        found = issuers.get(named_issuer) if isinstance(named_issuer, str) else None
        if found is None:
            refuse("is of an issuer that is not accepted here")
        issuer, keys = found
        key = await keys.find(key_id)
        if key is None:
            refuse("is signed by a key that its issuer does not have")
        if algorithm not in algorithms_of(key):
            refuse("has a signature that its key cannot make")
        return self._decode(token, key, algorithm, issuer, audience or issuer.audience), issuer

    def _read_unverified(self, token: str) -> tuple[dict[str, Any], Any]:
        """Return the header and the claim `iss`, which nobody vouches for yet."""
        try:
            parts = self._jwt.decode_complete(token, options={"verify_signature": False})
            return parts["header"], parts["payload"].get("iss")
        except (self._jwt.PyJWTError, *BROKEN):
            refuse("is not a JSON Web Token")

    def _decode(
        self, token: str, key: JsonWebKey, algorithm: str, issuer: OidcIssuer, audience: str
    ) -> dict[str, Any]:
        """Return the claims, verified by signature, times, audience and issuer."""
        jwt = self._jwt
        try:
            public_key = jwt.PyJWK.from_dict(dict(key), algorithm=algorithm).key
            if getattr(public_key, "key_size", MIN_RSA_BITS) < MIN_RSA_BITS and algorithm[:2] in ("RS", "PS"):
                refuse("is signed by a key that is too short")
            claims: dict[str, Any] = jwt.decode(
                token,
                key=public_key,
                algorithms=[algorithm],
                audience=audience,
                issuer=issuer.issuer,
                leeway=issuer.clock_skew_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            refuse("has expired")
        except jwt.ImmatureSignatureError:
            refuse("is not valid yet")
        except jwt.InvalidAudienceError:
            refuse("is for another audience")
        except jwt.MissingRequiredClaimError as error:
            refuse(f"has no claim '{error.claim}'")
        except (jwt.PyJWTError, *BROKEN):
            refuse("cannot be verified")
        return claims


def check_header(header: dict[str, Any]) -> tuple[str, str]:
    """Return the algorithm and the key's id that a header names. Raises Unauthenticated."""
    if any(member in header for member in REFUSED_MEMBERS):
        refuse("brings a key of its own, or asks to be read in another way")
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in TOKEN_TYPES:
        refuse("is of another type")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        refuse("is not signed by a public key's owner")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_KEY_ID_CHARACTERS:
        refuse("does not name its key")
    return algorithm, key_id


def read_identity(claims: dict[str, Any], issuer: OidcIssuer) -> Identity:
    """Return whom verified claims name. Raises Unauthenticated."""
    tenant, name = find_claim(claims, issuer.tenant_claim), claims["sub"]
    if issuer.tenants and isinstance(tenant, str):
        tenant = issuer.tenants.get(tenant)
    if not isinstance(tenant, str) or not is_tenant_name(tenant):
        refuse(f"names no tenant in its claim '{issuer.tenant_claim}'")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        refuse("names no subject")
    values = find_claim(claims, issuer.role_claim)
    known = issuer.roles or {role.value: role for role in AccessRole}
    named = values if isinstance(values, list) else [values]
    roles = {known[value] for value in named if isinstance(value, str) and value in known}
    if not roles:
        refuse(f"names no role in its claim '{issuer.role_claim}'")
    return Identity(tenant, next(role for role in ROLES if role in roles), name, expires=float(claims["exp"]))


def find_claim(claims: dict[str, Any], name: str) -> Any:
    """Return a claim, None without it. A claim whose name has dots comes before one inside an object."""
    if name in claims:
        return claims[name]
    outer, dot, inner = name.partition(".")
    if not dot or not isinstance(claims.get(outer), dict):
        return None
    return find_claim(claims[outer], inner)
