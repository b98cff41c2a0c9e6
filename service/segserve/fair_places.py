"""`FairPlaces`: places for which clients wait in turn, and of which none of them holds more than its share."""

from collections import Counter

from segserve.current_client import Client, current_client
from segserve.fair_semaphore import FairSemaphore


class FairPlaces:
    """`FairPlaces` gives places to the current client (`current_client`). For one thread: the event loop's.

    Work without a request, such as a job's, takes turns like a client, and has no share.

    total: places in all. max_client_places: of one client.
    """

    def __init__(self, total: int, max_client_places: int) -> None:
        self._all, self._max_client_places = FairSemaphore(total), max_client_places
        # Of clients that hold places or wait.
        self._of_clients: dict[Client, FairSemaphore] = {}
        self._users: Counter[Client] = Counter()

    async def acquire(self, max_wait_s: float) -> Client:
        """Take a place, and return the client that it must be released for. Raises TimeoutError.

        max_wait_s: for a place of the client's share, and again for one of all.
        """
        client = current_client.get()
        if client.source is None:
            await self._all.acquire(1, max_wait_s)
            return client
        share = self._of_clients.setdefault(client, FairSemaphore(self._max_client_places))
        self._users[client] += 1
        try:
            await share.acquire(1, max_wait_s)
            try:
                await self._all.acquire(1, max_wait_s)
            except BaseException:
                share.release(1)
                raise
        except BaseException:
            self._leave(client)
            raise
        return client

    def release(self, client: Client) -> None:
        """Give a place back. client: as `acquire` returned it."""
        self._all.release(1)
        if client.source is not None:
            self._of_clients[client].release(1)
            self._leave(client)

    def _leave(self, client: Client) -> None:
        self._users[client] -= 1
        if not self._users[client]:
            del self._users[client], self._of_clients[client]

    def has_share(self, client: Client) -> bool:
        """Return whether the client's share has a free place."""
        return client not in self._of_clients or self._of_clients[client].free > 0

    @property
    def has_free(self) -> bool:
        """Whether any place is free."""
        return self._all.free > 0

    def is_wanted(self, client: Client) -> bool:
        """Return whether somebody waits who could take a place that is given back for this client."""
        share = self._of_clients.get(client)
        return self._all.is_wanted or (share is not None and share.is_wanted)
