"""Which credentials a process accepts, by its settings."""

from segserve.app.issuer_documents import IssuerDocuments
from segserve.identity.authenticator import Authenticator, Authenticators
from segserve.identity.grants import Grants
from segserve.identity.identity import Identity
from segserve.identity.key_authenticator import KeyAuthenticator
from segserve.identity.oidc import TokenAuthenticator
from segserve.settings import Settings
from segserve.store.failure_counts import RedisFailureCounts
from segserve.store.object_store import ObjectStore
from segserve.store.rate_counts import RedisRateCounts
from segserve.store.signing_secret import SigningSecret


def create_authenticators(settings: Settings, counts: RedisRateCounts | None) -> Authenticators | None:
    """Return what finds out who sends a request; None where no keys are asked for. Blocks.

    counts: what replicas share; None counts failed logins in this process alone.

    Raises BadInput for a key file that cannot be read, and MissingDependency for issuers without what reads tokens.
    """
    authenticators: list[Authenticator] = []
    if settings.keys_file is not None:
        authenticators.append(KeyAuthenticator(settings.keys_file))
    if settings.oidc_issuers:
        documents = IssuerDocuments(settings.oidc_issuers)
        authenticators.append(TokenAuthenticator(settings.oidc_issuers, documents.fetch))
    if not authenticators:
        return None
    return Authenticators(authenticators, None if counts is None else RedisFailureCounts(counts))


def create_grants(
    settings: Settings, authenticators: Authenticators | None, objects: ObjectStore
) -> Grants | None:
    """Return what makes logins and links; None where no keys are asked for."""
    if authenticators is None:
        return None
    keys = [member for member in authenticators.members if isinstance(member, KeyAuthenticator)]

    def find_key(key_id: str) -> Identity | None:
        return next((found for member in keys if (found := member.find(key_id))), None)

    return Grants(SigningSecret(objects, settings.signing_secret).load, find_key)
