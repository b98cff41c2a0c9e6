"""The public keys of an issuer of OpenID Connect (its JWKS): fetched when first needed, kept, and fetched again."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import structlog

from segserve.errors import SegserveError, Unavailable
from segserve.identity.issuer_metadata import Fetch, fetch_metadata, read_endpoint, read_object
from segserve.identity.oidc_issuer import OidcIssuer

# Keys older than this are fetched again, so that a key that the issuer has withdrawn ends here too.
MAX_KEYS_AGE_S = 3600.0
# While the issuer is away its known keys still count for so long.
MAX_STALE_S = 24 * 3600.0
# Anyone can send tokens with made-up key ids. They make us ask the issuer no more often than this.
MIN_REFRESH_INTERVAL_S = 30.0
# Issuers have two or three keys at a time.
MAX_KEYS = 64
MIN_RSA_BITS = 2048
# Signatures that a key can make, by its type and curve. None of them is symmetric: a public key is no secret.
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVE_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
ALGORITHMS = frozenset((*RSA_ALGORITHMS, *CURVE_ALGORITHMS.values()))

JsonWebKey: TypeAlias = Mapping[str, Any]

log = structlog.get_logger(__name__)


class IssuerUnavailable(Unavailable):
    """The keys of an issuer of tokens cannot be fetched."""

    code = "issuer_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "The keys of the token's issuer cannot be fetched.",
            remedy="Try again in a moment; the log of the service says why.",
            retry_after_s=5,
        )


class IssuerKeys:
    """The keys of one issuer, by their ids.

    fetch: fetches its discovery document and its keys. clock: seconds, monotonic.
    """

    def __init__(self, issuer: OidcIssuer, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer, self._fetch, self._clock = issuer, fetch, clock
        self._keys: dict[str, JsonWebKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> JsonWebKey | None:
        """Return a key, or None where the issuer has none of this id. Raises IssuerUnavailable."""
        if self._age(self._fetched_at) > MAX_KEYS_AGE_S or key_id not in self._keys:
            await self._refresh()
        if self._age(self._fetched_at) > MAX_STALE_S:
            raise IssuerUnavailable
        return self._keys.get(key_id)

    def _age(self, moment: float | None) -> float:
        return float("inf") if moment is None else self._clock() - moment

    async def _refresh(self) -> None:
        """Fetch the keys, unless that was tried a moment ago. Whoever comes meanwhile waits for the same answer.

        The task outlives the request that began it: a client that goes away does not keep the keys from the others.
        """
        if self._refreshing is None or self._refreshing.done():
            if self._age(self._tried_at) < MIN_REFRESH_INTERVAL_S:
                return
            self._tried_at = self._clock()
            self._refreshing = asyncio.create_task(self._replace_keys())
        await asyncio.shield(self._refreshing)

    async def _replace_keys(self) -> None:
        try:
            self._keys = await self._fetch_keys()
        except (SegserveError, ValueError, RecursionError) as error:
            log.warning("keys of an issuer not fetched", issuer=self._issuer.issuer, reason=str(error))
            return
        self._fetched_at = self._clock()

    async def _fetch_keys(self) -> dict[str, JsonWebKey]:
        """Raises SegserveError, and ValueError for a document that is not as the standards have it."""
        metadata = await fetch_metadata(self._issuer, self._fetch)
        url = read_endpoint(metadata, "jwks_uri")
        keys = read_object(await self._fetch(url)).get("keys")
        if not isinstance(keys, list):
            raise ValueError("its JWKS has no keys")
        return {key["kid"]: key for key in keys[:MAX_KEYS] if is_usable(key)}


def is_usable(key: Any) -> bool:
    """Return whether a JSON Web Key can verify tokens: it has an id, is meant for signatures, and is no secret."""
    if not isinstance(key, dict) or not isinstance(key.get("kid"), str):
        return False
    operations = key.get("key_ops")
    may_verify = operations is None or (isinstance(operations, list) and "verify" in operations)
    return key.get("use", "sig") == "sig" and may_verify and bool(algorithms_of(key))


def algorithms_of(key: JsonWebKey) -> tuple[str, ...]:
    """Return the signatures that a key verifies: those of its type, and of them the one that it names."""
    if key.get("kty") == "RSA":
        known: tuple[str, ...] = RSA_ALGORITHMS
    elif key.get("kty") in ("EC", "OKP") and isinstance(key.get("crv"), str):
        algorithm = CURVE_ALGORITHMS.get(key["crv"])
        known = () if algorithm is None else (algorithm,)
    else:
        known = ()
    named = key.get("alg")
    return known if named is None else tuple(each for each in known if each == named)
