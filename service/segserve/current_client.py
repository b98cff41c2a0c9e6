"""The client of the request that is being answered, for limits that give every client its share.

The wire sets it for each request. Work without a request, such as a job, has no client.
"""

from contextvars import ContextVar

# An address, or a network of addresses that one client commands. None: no request.
current_client: ContextVar[str | None] = ContextVar("current_client", default=None)
