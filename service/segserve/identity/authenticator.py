"""Authenticators: each finds the identity behind one kind of credential, such as keys or the tokens of an issuer.

The wire reads the credential of a request and asks `Authenticators`, which asks the one that recognises it.
"""

from collections.abc import Sequence
from typing import Protocol

from segserve.errors import Unauthenticated
from segserve.identity.failure_limit import FailureCounts, FailureLimit
from segserve.identity.identity import Identity


class Authenticator(Protocol):
    """`Authenticator` knows one kind of credential."""

    def recognises(self, credential: str) -> bool:
        """Return whether a credential is of this kind, by its form alone. Costs microseconds."""
        ...

    async def authenticate(self, credential: str) -> Identity:
        """Return whose credential it is. Raises Unauthenticated, and Unavailable where that cannot be found out now."""
        ...

    async def watch(self) -> None:
        """Follow changes of what the credentials are compared with, until cancelled."""
        ...


class Authenticators:
    """`Authenticators` asks the first of several that recognises a credential, and slows down who guesses.

    failures: what all replicas have counted; None counts in this process alone.
    """

    def __init__(
        self, authenticators: Sequence[Authenticator], failures: FailureCounts | None = None
    ) -> None:
        self._authenticators = authenticators
        self._failures = FailureLimit(failures)

    @property
    def members(self) -> Sequence[Authenticator]:
        return self._authenticators

    async def authenticate(self, credential: str | None, client: str) -> Identity:
        """Return whose credential it is.

        client: the address that it comes from.

        Raises Unauthenticated, RateLimited for a client that has failed too often, and Unavailable.
        """
        if credential is None:
            raise Unauthenticated("This needs a key.", remedy=REMEDY)
        await self._failures.check(client, credential)
        try:
            identity = await self._find(credential).authenticate(credential)
        except Unauthenticated:
            await self._failures.count_failure(client)
            raise
        await self._failures.note_success(client, credential)
        return identity

    async def check_client(self, client: str) -> None:
        """Raise RateLimited for a client that has failed too often."""
        await self._failures.check(client)

    async def count_failure(self, client: str) -> None:
        """Count a failed attempt to sign in."""
        await self._failures.count_failure(client)

    def _find(self, credential: str) -> Authenticator:
        for authenticator in self._authenticators:
            if authenticator.recognises(credential):
                return authenticator
        raise Unauthenticated("The credential is none of a kind that is known here.", remedy=REMEDY)


REMEDY = "Send the header 'Authorization: Bearer KEY'. The operator makes keys by 'segserve keys add'."
