"""Grants: signed texts that let a browser act as an identity where it cannot send a key.

A *login* is kept in a cookie of the page. A *link* is part of an address: it reads what is under one path, for minutes.
Both name the key that they were made for, and count as long as that does: who revokes a key ends its logins and links.
Of a token nothing can be looked up later, so that a grant for one says itself who it is, and ends with the token.

They are signed by HMAC-SHA256. Nothing is stored, so every replica that has the secret reads those of all others.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from segserve.errors import BadInput, Unauthenticated
from segserve.identity.identity import Identity
from segserve.identity.rights import Right
from segserve.identity.signer import MAX_SIGNED_CHARACTERS, Signers
from segserve.types import AccessRole

LOGIN_PURPOSE = b"segserve login"
LINK_PURPOSE = b"segserve link"


@dataclass(frozen=True, slots=True)
class Grant:
    """`Grant` is what a login or a link says.

    key_id: of the key that it was made for. identity: of the token that it was made for, None with a key. expires:
    seconds since the epoch. path: that a link is for; empty for a login.
    """

    key_id: str
    identity: Identity | None
    expires: float
    path: str = ""


def to_json(grant: Grant) -> dict[str, Any]:
    """Return the content of a text, with short names: cookies go with every request."""
    content: dict[str, Any] = {"e": grant.expires}
    if grant.path:
        content["p"] = grant.path
    if grant.identity is None:
        return {**content, "k": grant.key_id}
    who = grant.identity
    return {**content, "i": [who.tenant, who.role.value, who.name, who.scopes.value]}


def from_json(content: dict[str, Any]) -> Grant | None:
    """Return the grant of a content that we have signed; None where another version of the service wrote it."""
    try:
        identity = None
        if "i" in content:
            tenant, role, name, scopes = content["i"]
            identity = Identity(tenant, AccessRole(role), name, Right(scopes))
        return Grant(content.get("k", ""), identity, content["e"], content.get("p", ""))
    except (ValueError, KeyError, TypeError):
        return None


class Grants:
    """`Grants` makes logins and links, and finds the identity behind them.

    signers: sign by the secret that all replicas share.
    find_key: returns the identity of a key by its id, None where it was revoked or has expired.
    clock: seconds since the epoch.
    """

    def __init__(
        self,
        signers: Signers,
        find_key: Callable[[str], Identity | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signers, self._find_key, self._clock = signers, find_key, clock

    async def create_login(self, identity: Identity, max_s: float) -> tuple[str, float]:
        """Return a login, and when it ends, in seconds since the epoch. Raises Unavailable."""
        return await self._create(LOGIN_PURPOSE, identity, max_s, "")

    async def create_link(self, identity: Identity, path: str, max_s: float) -> tuple[str, float]:
        """Return a link to a path and what is below it, and when it ends. Raises BadInput, Unavailable."""
        return await self._create(LINK_PURPOSE, identity, max_s, path)

    async def read_login(self, text: str) -> Identity:
        """Return whose login it is. Raises Unauthenticated, Unavailable."""
        _, identity = await self._read(LOGIN_PURPOSE, text, "login")
        return identity

    async def read_link(self, text: str, path: str) -> Identity:
        """Return whose link it is: an identity that may only read. path: of the request.

        Raises Unauthenticated, Unavailable.
        """
        grant, identity = await self._read(LINK_PURPOSE, text, "link")
        if path != grant.path and not path.startswith(f"{grant.path}/"):
            refuse("The link is for another path")
        return replace(identity, scopes=identity.scopes & Right.READ)

    async def _create(self, purpose: bytes, identity: Identity, max_s: float, path: str) -> tuple[str, float]:
        expires = self._clock() + max_s
        if identity.expires is not None:
            expires = min(expires, identity.expires)
        expires = float(int(expires))
        who = None if identity.key_id else identity
        signer = await self._signers.get(purpose)
        text = signer.sign(to_json(Grant(identity.key_id, who, expires, path)))
        if len(text) > MAX_SIGNED_CHARACTERS:
            raise BadInput("The path is too long for a link.", field="path", remedy="Name a shorter one.")
        return text, expires

    async def _read(self, purpose: bytes, text: str, name: str) -> tuple[Grant, Identity]:
        content = (await self._signers.get(purpose)).read(text)
        grant = None if content is None else from_json(content)
        if grant is None:
            refuse(f"The {name} is not of this service")
        if grant.expires <= self._clock():
            refuse(f"The {name} has ended")
        identity = grant.identity or self._find_key(grant.key_id)
        if identity is None:
            refuse(f"The key of the {name} was revoked or has expired")
        return grant, replace(identity, expires=grant.expires)


def refuse(reason: str) -> NoReturn:
    """Raise Unauthenticated. reason: a sentence without its full stop."""
    raise Unauthenticated(f"{reason}.", remedy="Log in again with your key.")
