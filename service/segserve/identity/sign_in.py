"""Signing in at an issuer: the authorization code flow of OpenID Connect, with PKCE (RFC 7636).

    browser -> begin: state, nonce and code verifier in a signed cookie; the address of the issuer's own login
    browser -> issuer -> back to us with a code and the state
    browser -> finish: the state is the cookie's; code and verifier, sent to the issuer, get an ID token -> claims

Nothing is stored here: the cookie has what one attempt needs, so that it may end at another replica than it began at.
Each issuer sends people back to an address of its own, and names itself where it can (RFC 9207): the code of one issuer
is never sent to another (mix-up).
"""

import asyncio
import hmac
import secrets
import time
from base64 import b64encode
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote_plus, urlencode

import structlog

from segserve.errors import NotFound, SegserveError, Unauthenticated, quote
from segserve.identity.identity import Identity
from segserve.identity.issuer_keys import MAX_KEYS_AGE_S, IssuerUnavailable
from segserve.identity.issuer_metadata import Fetch, fetch_metadata, read_endpoint, read_object
from segserve.identity.oidc import TokenAuthenticator, read_identity
from segserve.identity.oidc_issuer import OidcIssuer
from segserve.identity.signer import Signers, encode

SIGN_IN_PURPOSE = b"segserve sign-in"
# So long may somebody take at the issuer: to look for a password and a second factor.
MAX_ATTEMPT_S = 600
# An issuer whose discovery document could not be fetched is asked again after so long.
RETRY_METADATA_S = 5.0
# 256 bits each, as RFC 7636 recommends for the verifier.
RANDOM_BYTES = 32
MAX_CODE_CHARACTERS = 4096
# RFC 6749, 4.1.2.1 and OpenID Connect Core 1.0, 3.1.2.6: the user, or a rule of the issuer, has said no.
DENIED_ERRORS = ("access_denied", "interaction_required", "login_required", "consent_required")
AWAY_ERRORS = ("temporarily_unavailable", "server_error")

# Sends a form with headers to an address; returns the status and the body of the answer. Raises SegserveError.
Post: TypeAlias = Callable[[str, Mapping[str, str], Mapping[str, str]], Awaitable[tuple[int, bytes]]]

log = structlog.get_logger(__name__)


class SignInProblem(StrEnum):
    """Why nobody was signed in, as the page is told."""

    DENIED = "denied"  # the user, or the issuer, said no
    ENDED = "ended"  # it took too long, or was begun in another browser
    REFUSED = "refused"  # what the issuer answered cannot be trusted
    NO_ACCESS = "no_access"  # the issuer gives this person no tenant or role here
    AWAY = "away"  # the issuer does not answer


class SignInFailed(Unauthenticated):
    """Nobody was signed in."""

    def __init__(self, problem: SignInProblem, reason: str) -> None:
        super().__init__(reason, remedy="Sign in again.")
        self.problem = problem


@dataclass(frozen=True)
class Attempt:
    """Values that one attempt to sign in began with.

    issuer: its name. redirect_uri: where it sends people back to. expires: seconds since the epoch.
    """

    issuer: str
    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    expires: float


class SignIns:
    """`SignIns` leads people to the login of an issuer, and knows who comes back.

    issuers: those with a client_id. fetch, post: call issuers. clock: seconds since the epoch.
    """

    def __init__(
        self,
        issuers: Sequence[OidcIssuer],
        tokens: TokenAuthenticator,
        signers: Signers,
        fetch: Fetch,
        post: Post,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = {issuer.sign_in_name: issuer for issuer in issuers if issuer.client_id is not None}
        self._tokens, self._signers, self._fetch, self._post, self._clock = (
            tokens,
            signers,
            fetch,
            post,
            clock,
        )
        # By name: the discovery document, and when it was fetched; None where that failed.
        self._metadata: dict[str, tuple[dict[str, Any] | None, float]] = {}
        self._fetching: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def names(self) -> list[str]:
        return list(self._issuers)

    async def begin(self, name: str, redirect_uri: str) -> tuple[str, str]:
        """Return the address of an issuer's login, and the cookie that `finish` needs.

        redirect_uri: of this service, as the issuer knows it. Raises NotFound, IssuerUnavailable, Unavailable.
        """
        issuer = self._find(name)
        metadata = await self._read_metadata(issuer)
        state, nonce, verifier = (secrets.token_urlsafe(RANDOM_BYTES) for _ in range(3))
        attempt = Attempt(name, state, nonce, verifier, redirect_uri, self._clock() + MAX_ATTEMPT_S)
        parameters = {
            "response_type": "code",
            "client_id": issuer.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(issuer.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": encode(sha256(verifier.encode()).digest()).decode(),
            "code_challenge_method": "S256",
        }
        endpoint = read_endpoint(metadata, "authorization_endpoint")
        address = f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}"
        return address, (await self._signers.get(SIGN_IN_PURPOSE)).sign(asdict(attempt))

    async def finish(
        self, name: str, redirect_uri: str, parameters: Mapping[str, str], cookie: str | None
    ) -> Identity:
        """Return who has signed in. The identity has no end: how long a login lasts is the service's to say.

        parameters: of the address that the issuer has sent the browser to. cookie: of `begin`, None without one.

        Raises NotFound, SignInFailed, Unavailable.
        """
        issuer = self._find(name)
        attempt = await self._read_attempt(cookie)
        if attempt is None or attempt.expires <= self._clock():
            raise SignInFailed(SignInProblem.ENDED, "The sign-in took too long, or began in another browser.")
        state = parameters.get("state", "")
        if not hmac.compare_digest(state.encode("utf-8", "replace"), attempt.state.encode()):
            raise SignInFailed(SignInProblem.ENDED, "The answer is to another sign-in.")
        if (attempt.issuer, attempt.redirect_uri) != (name, redirect_uri):
            raise SignInFailed(SignInProblem.REFUSED, "The answer came back to another address.")
        try:
            metadata = await self._read_metadata(issuer)
            check_issuer(parameters.get("iss"), issuer, metadata)
            token = await self._exchange(read_code(parameters), attempt, issuer, metadata)
            claims = await self._tokens.verify_id_token(token, issuer, attempt.nonce)
        except IssuerUnavailable as error:
            raise SignInFailed(SignInProblem.AWAY, error.message) from None
        except SignInFailed:
            raise
        except Unauthenticated as error:
            raise SignInFailed(SignInProblem.REFUSED, error.message) from None
        try:
            found = read_identity(claims, issuer)
        except Unauthenticated as error:
            raise SignInFailed(SignInProblem.NO_ACCESS, error.message) from None
        return Identity(found.tenant, found.role, found.name, found.scopes)

    def _find(self, name: str) -> OidcIssuer:
        try:
            return self._issuers[name]
        except KeyError:
            raise NotFound(
                f"Nobody can sign in at {quote(name)}.", remedy="GET /v1/login/issuers lists the issuers."
            ) from None

    async def _read_attempt(self, cookie: str | None) -> Attempt | None:
        content = None if cookie is None else (await self._signers.get(SIGN_IN_PURPOSE)).read(cookie)
        try:
            return None if content is None else Attempt(**content)
        except TypeError:  # of another version of the service
            return None

    async def _read_metadata(self, issuer: OidcIssuer) -> dict[str, Any]:
        """Return the discovery document, fetched at most every hour. Raises IssuerUnavailable."""
        async with self._fetching[issuer.issuer]:  # whoever comes meanwhile waits for the same answer
            known, fetched_at = self._metadata.get(issuer.issuer, (None, float("-inf")))
            if self._clock() - fetched_at >= (RETRY_METADATA_S if known is None else MAX_KEYS_AGE_S):
                known = await self._fetch_metadata(issuer) or known
                self._metadata[issuer.issuer] = (known, self._clock())
        if known is None:
            raise IssuerUnavailable
        return known

    async def _fetch_metadata(self, issuer: OidcIssuer) -> dict[str, Any] | None:
        """Return the discovery document; None where it cannot be fetched, or used."""
        try:
            metadata = await fetch_metadata(issuer, self._fetch)
            for endpoint in ("authorization_endpoint", "token_endpoint"):
                read_endpoint(metadata, endpoint)
        except (SegserveError, ValueError, RecursionError) as error:
            log.warning("nobody can sign in at an issuer", issuer=issuer.issuer, reason=str(error))
            return None
        return metadata

    async def _exchange(
        self, code: str, attempt: Attempt, issuer: OidcIssuer, metadata: dict[str, Any]
    ) -> str:
        """Return the ID token for a code, which counts once. Raises SignInFailed."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": attempt.redirect_uri,
            "code_verifier": attempt.verifier,
        }
        headers: dict[str, str] = {}
        assert issuer.client_id is not None
        secret = read_secret(issuer.client_secret_file)
        if secret is not None and takes_basic(metadata):
            pair = f"{quote_plus(issuer.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": issuer.client_id} | ({} if secret is None else {"client_secret": secret})
        try:
            status, body = await self._post(read_endpoint(metadata, "token_endpoint"), form, headers)
            # Some refuse a code by a page of HTML.
            answer = {} if 400 <= status < 500 else read_object(body)
        except (SegserveError, ValueError, RecursionError) as error:
            log.warning("an issuer did not answer as one", issuer=issuer.issuer, reason=str(error))
            raise SignInFailed(SignInProblem.AWAY, "The issuer gives no token.") from None
        token = answer.get("id_token")
        if status != 200 or not isinstance(token, str):
            reason = quote(str(answer.get("error", "no id_token")))
            log.warning("an issuer refused a code", issuer=issuer.issuer, status=status, reason=reason)
            raise SignInFailed(SignInProblem.REFUSED, "The issuer gives no token for this code.")
        return token


def check_issuer(named: str | None, issuer: OidcIssuer, metadata: dict[str, Any]) -> None:
    """Check that the issuer has sent the browser back itself (RFC 9207). Raises SignInFailed."""
    if named is None and metadata.get("authorization_response_iss_parameter_supported") is not True:
        return
    if named != issuer.issuer:
        raise SignInFailed(SignInProblem.REFUSED, "The answer is of another issuer.")


def read_code(parameters: Mapping[str, str]) -> str:
    """Return the code. Raises SignInFailed where the issuer has sent an error, or none."""
    error = parameters.get("error")
    if error in DENIED_ERRORS:
        raise SignInFailed(SignInProblem.DENIED, "The issuer was told not to sign in.")
    if error in AWAY_ERRORS:
        raise SignInFailed(SignInProblem.AWAY, "The issuer cannot sign in now.")
    code = parameters.get("code", "")
    if error is not None or not 0 < len(code) <= MAX_CODE_CHARACTERS:
        raise SignInFailed(SignInProblem.REFUSED, f"The issuer answers {quote(error or 'no code')}.")
    return code


def takes_basic(metadata: dict[str, Any]) -> bool:
    """Return whether a secret goes into the header Authorization, as it does where an issuer says nothing."""
    methods = metadata.get("token_endpoint_auth_methods_supported")
    return not isinstance(methods, list) or "client_secret_basic" in methods


def read_secret(path: Path | None) -> str | None:
    """Return the secret that a file holds; None without one. Read each time, so that a new one needs no restart.

    Raises SignInFailed.
    """
    try:
        return None if path is None else path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        log.error("the secret of an issuer's client cannot be read", path=str(path), reason=str(error))
        raise SignInFailed(SignInProblem.REFUSED, "The service cannot show the issuer who it is.") from None
