"""Which credentials a process accepts, by its settings."""

from segserve.identity.authenticator import Authenticator, Authenticators
from segserve.identity.key_authenticator import KeyAuthenticator
from segserve.settings import Settings


def create_authenticators(settings: Settings) -> Authenticators | None:
    """Return what finds out who sends a request; None where no keys are asked for. Blocks.

    Raises BadInput for a key file that cannot be read.
    """
    authenticators: list[Authenticator] = []
    if settings.keys_file is not None:
        authenticators.append(KeyAuthenticator(settings.keys_file))
    return Authenticators(authenticators) if authenticators else None
