"""An issuer of OpenID Connect whose tokens are accepted: one entry of the setting `oidc_issuers`."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from segserve.identity.tenant_name import NAME_RULE, is_tenant_name
from segserve.types import AccessRole

# It stands in an address, and on a button.
SIGN_IN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
OPENID_SCOPE = "openid"


class OidcIssuer(BaseModel):
    """An issuer, and what its tokens must say.

    issuer: as the claim `iss` has it, and below which its discovery document is. audience: that the claim `aud` must
    name. tenant_claim, role_claim: names of claims; a dot leads into an object ("realm_access.roles"). tenants,
    roles: the tenant or role for each value of its claim; without them the values are names of tenants and of roles.
    clock_skew_s: how far the clocks may be apart. ca_file: authorities in PEM that the issuer's certificate may be of,
    in place of the public ones.

    client_id: of this service at the issuer; with it people sign in there from the page. client_secret_file: holds its
    secret, where it has one. scopes: that are asked for. name: of the issuer on the page; its host if left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str
    audience: str = Field(min_length=1)
    tenant_claim: str = Field("tenant", min_length=1)
    role_claim: str = Field("role", min_length=1)
    tenants: dict[str, str] = {}
    roles: dict[str, AccessRole] = {}
    clock_skew_s: float = Field(60.0, ge=0, le=600)
    ca_file: Path | None = None
    client_id: str | None = Field(None, min_length=1)
    client_secret_file: Path | None = None
    scopes: tuple[str, ...] = (OPENID_SCOPE,)
    name: str = ""

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, issuer: str) -> str:
        if not is_trusted_transport(issuer):
            raise ValueError("an issuer is a URL with https, or with http on loopback")
        return issuer

    @field_validator("scopes")
    @classmethod
    def _check_scopes(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if OPENID_SCOPE not in scopes:
            raise ValueError(f"the scope {OPENID_SCOPE!r} is always needed")
        return scopes

    @model_validator(mode="after")
    def _check_sign_in(self) -> Self:
        if self.client_id is None and (self.client_secret_file or self.name):
            raise ValueError("client_secret_file and name need a client_id")
        if self.client_id is not None and not SIGN_IN_NAME.fullmatch(self.sign_in_name):
            raise ValueError("a name has letters, digits, '.', '_' and '-', and 40 of them at most")
        return self

    @property
    def sign_in_name(self) -> str:
        """The name of the issuer on the page, and in the address to which it sends people back."""
        return self.name or (urlsplit(self.issuer).hostname or "").replace(":", "-")

    @field_validator("tenants")
    @classmethod
    def _check_tenants(cls, tenants: dict[str, str]) -> dict[str, str]:
        if not all(is_tenant_name(tenant) for tenant in tenants.values()):
            raise ValueError(f"a tenant's name is {NAME_RULE}")
        return tenants


def is_trusted_transport(url: str) -> bool:
    """Return whether nobody between can change what is fetched from a URL: https, or http on loopback."""
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
    except ValueError:
        return False
    if not host or user is not None or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
