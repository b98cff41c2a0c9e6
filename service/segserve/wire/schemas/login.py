"""JSON of /v1/login, the issuers below it, and /v1/links."""

from pydantic import BaseModel, Field

from segserve.identity.oidc import MAX_TOKEN_CHARACTERS
from segserve.types import AccessRole
from segserve.wire.schemas.common import StrictBody

MAX_LINK_S = 3600
# An image, a file or a job, or what is below it.
LINKABLE = r"^/v1/(images|files|jobs)/[^/?#\x00-\x20]+(/[^?#\x00-\x20]*)?$"


class LoginIn(StrictBody):
    """Body of POST /v1/login."""

    key: str = Field(
        min_length=1,
        max_length=MAX_TOKEN_CHARACTERS,
        description="a key, or a token of an issuer",
        repr=False,
    )


class IdentityOut(BaseModel):
    """Whom the service takes the sender of a request for."""

    tenant: str = Field(description="whose images, files and jobs the sender reaches")
    role: AccessRole = Field(description="what the sender may do")
    name: str = Field(description="of the key, or the subject of the token")
    asks_for_keys: bool = Field(
        description="whether the service asks for keys; without, everybody is an operator"
    )
    expires_at: float | None = Field(
        description="when the login ends, in seconds since 1970; null where the request has none"
    )


class SignInIssuer(BaseModel):
    """An issuer of OpenID Connect at which people sign in."""

    name: str = Field(description="of the issuer, as the operator calls it")


class SignInIssuersOut(BaseModel):
    """Where people sign in."""

    issuers: list[SignInIssuer] = Field(description="in the operator's order; none where there are only keys")


class SignInOut(BaseModel):
    """Where to send a browser."""

    url: str = Field(
        description="of the issuer's own login; it sends the browser back when somebody has signed in"
    )


class LinkIn(StrictBody):
    """Body of POST /v1/links."""

    path: str = Field(
        max_length=512,
        pattern=LINKABLE,
        description="path of an image, a file or a job, or below one; the link reads it and all that is below it",
    )
    expires_s: int = Field(600, ge=1, le=MAX_LINK_S, description="seconds until the link ends")


class LinkOut(BaseModel):
    """A link."""

    link: str | None = Field(
        description="append it to addresses below the path as the query parameter `link`; null where no keys are"
        " asked for, and none is needed"
    )
    expires_at: float = Field(description="when it ends, in seconds since 1970")
