"""The images of the datastore segmented by a model without clicks: /batch/infer. Labels are kept with the tag
"original".

It runs in this process, one at a time for each tenant: a restart ends it. Jobs of the API (POST /v1/jobs) outlive one.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from time import time
from typing import Any

import structlog

from segserve.app import Service
from segserve.cancellation import cancel_and_wait
from segserve.current_client import Client, current_client
from segserve.errors import Busy, NotAllowed, NotFound, SegserveError
from segserve.identity.identity import current_tenant
from segserve.wire.frontends.monai.datastore import FINAL_TAG, Datastore

Json = dict[str, Any]
MAX_DETAILS = 100

log = structlog.get_logger(__name__)


class Images(StrEnum):
    """Which images a batch is about."""

    ALL = "all"
    LABELED = "labeled"
    UNLABELED = "unlabeled"


@dataclass
class Batch:
    """`Batch` is one run. owner: the client that started it. task: runs it."""

    model: str
    owner: Client
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    status: str = "RUNNING"
    details: list[str] = field(default_factory=list)
    started_at: float = field(default_factory=time)
    task: "asyncio.Task[None] | None" = None

    def describe(self) -> Json:
        return {
            "id": self.id,
            "status": self.status,
            "model": self.model,
            "start_ts": int(self.started_at),
            "details": self.details[-MAX_DETAILS:],
        }


class Batches:
    """`Batches` runs one batch of each tenant at a time.

    label: segments an image of the datastore and keeps its label.
    """

    def __init__(self, service: Service, datastore: Datastore) -> None:
        self._service, self._datastore = service, datastore
        self._latest: dict[str, Batch] = {}  # by tenant

    def describe(self, *, only_running: bool) -> Json:
        """Return the latest batch. Raises NotFound, as MONAI Label does where none runs."""
        return self._find(only_running=only_running).describe()

    def _find(self, *, only_running: bool) -> Batch:
        batch = self._latest.get(current_tenant())
        if batch is None or (only_running and batch.status != "RUNNING"):
            running = "are currently running" if only_running else "were found"
            raise NotFound(f"No batch inference tasks {running}.")
        return batch

    async def start(self, model: str, images: Images, label: Callable[[str], Awaitable[None]]) -> Json:
        """Start a batch over images of the datastore. Raises Busy where one runs."""
        latest = self._latest.get(current_tenant())
        if latest is not None and latest.task is not None and not latest.task.done():
            raise Busy("A batch runs already.", remedy="Wait for its end.", retry_after_s=30)
        batch = self._latest[current_tenant()] = Batch(model, current_client.get())

        async def run() -> None:
            try:
                for name, entry in (await self._datastore.describe_all()).items():
                    has_label = FINAL_TAG in entry["labels"]
                    if images is not Images.ALL and has_label is not (images is Images.LABELED):
                        continue
                    try:
                        await label(name)
                        batch.details.append(f"{name}: done")
                    except SegserveError as error:
                        batch.details.append(f"{name}: {error.message}")
                batch.status = "DONE"
            except asyncio.CancelledError:
                batch.status = "CANCELED"
                raise
            except Exception:
                batch.status = "ERROR"
                log.exception("internal error")

        batch.task = asyncio.create_task(run())
        self._service.run_in_background(self._stop_with_service(batch.task))
        return batch.describe()

    async def _stop_with_service(self, task: "asyncio.Task[None]") -> None:
        """End the batch where the service stops."""
        try:
            await asyncio.wait([task])
        finally:
            await cancel_and_wait([task])

    async def stop(self) -> Json:
        """End the batch of the current client. Raises NotFound where none runs, NotAllowed for another client's."""
        batch = self._find(only_running=True)
        description = batch.describe()
        assert batch.task is not None
        if batch.owner != current_client.get():
            raise NotAllowed("Another client has started the batch.", remedy="Let that one stop it.")
        await cancel_and_wait([batch.task])
        return {**description, "status": batch.status}
