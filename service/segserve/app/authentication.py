"""Which credentials a process accepts, and where people sign in, by its settings."""

from collections.abc import Sequence
from typing import TypeVar

from segserve.app.issuer_documents import SETTING, IssuerDocuments
from segserve.errors import BadInput, quote
from segserve.identity.authenticator import Authenticator, Authenticators
from segserve.identity.grants import Grants
from segserve.identity.identity import Identity
from segserve.identity.key_authenticator import KeyAuthenticator
from segserve.identity.oidc import TokenAuthenticator
from segserve.identity.oidc_issuer import OidcIssuer
from segserve.identity.sign_in import SignInFailed, SignIns, read_secret
from segserve.identity.signer import Signers
from segserve.settings import Settings
from segserve.store.failure_counts import RedisFailureCounts
from segserve.store.object_store import ObjectStore
from segserve.store.rate_counts import RedisRateCounts
from segserve.store.signing_secret import SigningSecret

A = TypeVar("A", bound=Authenticator)


def create_authenticators(
    settings: Settings, counts: RedisRateCounts | None, documents: IssuerDocuments
) -> Authenticators | None:
    """Return what finds out who sends a request; None where no keys are asked for. Blocks.

    counts: what replicas share; None counts failed logins in this process alone. documents: of the issuers.

    Raises BadInput for a key file that cannot be read, and MissingDependency for issuers without what reads tokens.
    """
    authenticators: list[Authenticator] = []
    if settings.keys_file is not None:
        authenticators.append(KeyAuthenticator(settings.keys_file))
    if settings.oidc_issuers:
        authenticators.append(TokenAuthenticator(settings.oidc_issuers, documents.fetch))
    if not authenticators:
        return None
    return Authenticators(authenticators, None if counts is None else RedisFailureCounts(counts))


def create_signers(settings: Settings, objects: ObjectStore) -> Signers:
    """Return what signs logins and links. Raises BadInput for a secret that is too short."""
    return Signers(SigningSecret(objects, settings.signing_secret).load)


def create_grants(authenticators: Authenticators | None, signers: Signers) -> Grants | None:
    """Return what makes logins and links; None where no keys are asked for."""
    if authenticators is None:
        return None
    keys = find_members(authenticators, KeyAuthenticator)

    def find_key(key_id: str) -> Identity | None:
        return next((found for member in keys if (found := member.find(key_id))), None)

    return Grants(signers, find_key)


def create_sign_ins(
    settings: Settings,
    authenticators: Authenticators | None,
    signers: Signers,
    documents: IssuerDocuments,
) -> SignIns | None:
    """Return what leads people to the login of an issuer; None where no issuer has a client_id. Blocks.

    Raises BadInput for issuers that cannot be told apart, or a secret that cannot be read.
    """
    issuers = [issuer for issuer in settings.oidc_issuers if issuer.client_id is not None]
    if authenticators is None or not issuers:
        return None
    check_sign_ins(issuers)
    [tokens] = find_members(authenticators, TokenAuthenticator)
    return SignIns(issuers, tokens, signers, documents.fetch, documents.post)


def check_sign_ins(issuers: Sequence[OidcIssuer]) -> None:
    """Raise BadInput for issuers of the same name, or a file that cannot be read."""
    names = [issuer.sign_in_name.lower() for issuer in issuers]
    if len(set(names)) < len(names):
        raise BadInput(
            "Two issuers have the same name.", field=SETTING, remedy="Give each a 'name' of its own."
        )
    for issuer in issuers:
        if not has_secret(issuer):
            raise BadInput(
                f"The file {quote(str(issuer.client_secret_file))} holds no secret that can be read.",
                field=SETTING,
                remedy="Write the client's secret into it, for the user of the service.",
            )


def has_secret(issuer: OidcIssuer) -> bool:
    """Return whether the file of a secret can be read; True without one."""
    try:
        return read_secret(issuer.client_secret_file) != ""
    except SignInFailed:
        return False


def find_members(authenticators: Authenticators, kind: type[A]) -> list[A]:
    return [member for member in authenticators.members if isinstance(member, kind)]
