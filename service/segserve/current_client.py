"""The client of the request that is being answered, for limits that give everybody a share.

The wire sets it for each request, job and encoder workers for the work that they do.
"""

from contextvars import ContextVar
from typing import NamedTuple

# Of clients that have not said yet who they are: connections, and requests whose headers are not complete.
UNKNOWN_TENANT = ""


class Client(NamedTuple):
    """`Client` says whom work is for. Tenants share everything first, then the sources of one tenant.

    source: an address, or a network of addresses that one client commands; with the name of the key, if there is one.
        None: work without a request, such as a job's.
    """

    tenant: str = UNKNOWN_TENANT
    source: str | None = None


NOBODY = Client()

current_client: ContextVar[Client] = ContextVar("current_client", default=NOBODY)
