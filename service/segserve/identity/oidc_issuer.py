"""An issuer of OpenID Connect whose tokens are accepted: one entry of the setting `oidc_issuers`."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from segserve.identity.tenant_name import NAME_RULE, is_tenant_name
from segserve.types import AccessRole


class OidcIssuer(BaseModel):
    """An issuer, and what its tokens must say.

    issuer: as the claim `iss` has it, and below which its discovery document is. audience: that the claim `aud` must
    name. tenant_claim, role_claim: names of claims; a dot leads into an object ("realm_access.roles"). tenants,
    roles: the tenant or role for each value of its claim; without them the values are names of tenants and of roles.
    clock_skew_s: how far the clocks may be apart.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str
    audience: str = Field(min_length=1)
    tenant_claim: str = Field("tenant", min_length=1)
    role_claim: str = Field("role", min_length=1)
    tenants: dict[str, str] = {}
    roles: dict[str, AccessRole] = {}
    clock_skew_s: float = Field(60.0, ge=0, le=600)

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, issuer: str) -> str:
        if not is_trusted_transport(issuer):
            raise ValueError("an issuer is a URL with https, or with http on loopback")
        return issuer

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
