"""Who sends a request: the tenant whose data it may reach, and what it may do there."""

from contextvars import ContextVar
from dataclasses import dataclass, field

from segserve.identity.rights import ALL_RIGHTS, NO_RIGHTS, ROLE_RIGHTS, Right
from segserve.types import DEFAULT_TENANT, AccessRole


@dataclass(frozen=True, slots=True)
class Identity:
    """`Identity` says who sends a request.

    tenant: images, files, jobs and masks of other tenants do not exist for it.
    name: of the key, or the subject of the token; for the audit log.
    scopes: narrow what the role may do.
    key_id: of the key that was sent, empty without one.
    expires: when the key, the token or the login ends, in seconds since the epoch; None where nothing says so.
    """

    tenant: str
    role: AccessRole
    name: str
    scopes: Right = ALL_RIGHTS
    key_id: str = field(default="", compare=False)
    expires: float | None = field(default=None, compare=False)

    @property
    def rights(self) -> Right:
        return ROLE_RIGHTS[self.role] & self.scopes


# Of everybody where no keys are asked for, and of the command line.
LOCAL_IDENTITY = Identity(DEFAULT_TENANT, AccessRole.OPERATOR, "local")
# Of a request without a credential, to what is open to everybody. It has no data.
ANONYMOUS = Identity("", AccessRole.METRICS, "anonymous", NO_RIGHTS)

# The wire sets it for each request. Work that outlives its request, such as a session, keeps the tenant itself.
current_identity: ContextVar[Identity] = ContextVar("current_identity", default=LOCAL_IDENTITY)


def current_tenant() -> str:
    """Return the tenant of the request that is being answered."""
    return current_identity.get().tenant
