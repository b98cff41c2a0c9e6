"""The images of a project are encoded before somebody clicks: by a batch job, when it connects or has new tasks.

At most SEGSERVE_LABEL_STUDIO_PRECOMPUTE images of a project, the first ones in Label Studio's order, which is the one
that annotators see. Images that were encoded before cost a look. Clicks go first: the job has the priority of batches.
"""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256

import orjson
import structlog
from cachetools import TTLCache
from pydantic import ValidationError

from segserve.app import Service
from segserve.errors import SegserveError
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptableManifest
from segserve.wire.frontends.label_studio.bodies import TaskIn
from segserve.wire.frontends.label_studio.connections import Connection
from segserve.wire.frontends.label_studio.site import Site
from segserve.wire.frontends.label_studio.task_media import TaskMedia
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.jobs import submit_job
from segserve.wire.schemas.jobs import JobIn

PAGE_SIZE = 100
MAX_PROJECTS = 1024
# A project connects whenever somebody looks at its connection. It is not looked through again so soon.
PAUSE_S = 60.0

log = structlog.get_logger(__name__)


class Precompute:
    """`Precompute` starts the jobs. It works in the background, and what goes wrong is logged only."""

    def __init__(self, service: Service, site: Site, media: TaskMedia) -> None:
        self._service, self._site, self._media = service, site, media
        self._max_images = service.settings.label_studio_precompute
        # One project after the other: each is up to hundreds of downloads.
        self._turn = asyncio.Lock()
        # Tenants, projects and models.
        self._waiting: set[tuple[str, str, str]] = set()
        self._recent: TTLCache[tuple[str, str, str], bool] = TTLCache(MAX_PROJECTS, PAUSE_S)

    def start(self, connection: Connection, bundle: Bundle, *, has_new_tasks: bool = False) -> None:
        """Encode the images of a project, unless this was begun a moment ago."""
        key = (connection.tenant, connection.project, bundle.name)
        if not self._max_images or not isinstance(bundle.manifest, PromptableManifest):
            return
        if connection.config is None or connection.url is None:
            return
        # One that waits for its turn will see the new tasks too.
        if (
            key in self._waiting
            or len(self._waiting) >= MAX_PROJECTS
            or (key in self._recent and not has_new_tasks)
        ):
            return
        self._recent[key] = True
        self._waiting.add(key)
        self._service.run_in_background(self._run(connection, bundle))

    async def _run(self, connection: Connection, bundle: Bundle) -> None:
        async with self._turn:
            self._waiting.discard((connection.tenant, connection.project, bundle.name))
            try:
                _ = self._service.jobs  # raises where there are none, before anything is fetched
                image_ids = [image_id async for image_id in self._store_images(connection)]
                if not image_ids:
                    return
                job = await submit_job(
                    self._service, embed_job(bundle.name, image_ids), idempotency_key(bundle, image_ids)
                )
            except SegserveError as error:
                log.info("nothing precomputed", project=connection.project, reason=str(error))
            else:
                log.info("precomputing", project=connection.project, images=len(image_ids), job_id=job.job_id)

    async def _store_images(self, connection: Connection) -> AsyncIterator[str]:
        """Yield the ids of the project's images. Those that cannot be read are left out."""
        assert connection.config is not None
        config, count = connection.config, 0
        keys = [key for name, key in config.values.items() if name not in config.video_controls]
        if not keys:
            return
        async for task in self._list_tasks(connection):
            for key in keys:
                if count >= self._max_images:
                    return
                count += 1  # those that cannot be read too: a project of them must not be walked to its end
                try:
                    image = await self._media.get_image(connection, task, key, None)
                except SegserveError as error:
                    log.info("image not precomputed", task=task.id, reason=str(error))
                    continue
                yield image.image_id

    async def _list_tasks(self, connection: Connection) -> AsyncIterator[TaskIn]:
        """Yield the tasks of a project, of as many pages as are needed."""
        number, page = connection.project.partition(".")[0], 1
        if not number.isdecimal():
            return
        while True:
            # review: else Label Studio lets its backends predict all of these tasks before it answers.
            query = f"project={number}&page={page}&page_size={PAGE_SIZE}&resolve_uri=false&review=true"
            answer = await self._site.read_json(connection, f"/api/tasks/?{query}")
            tasks = read_tasks(answer)
            for task in tasks:
                yield task
            if len(tasks) < PAGE_SIZE:
                return
            page += 1


def read_tasks(answer: object) -> list[TaskIn]:
    """Return the tasks of a page of Label Studio."""
    tasks = answer.get("tasks") if isinstance(answer, dict) else None
    try:
        return [TaskIn.model_validate(task) for task in tasks or []]
    except ValidationError:
        return []


def embed_job(model: str, image_ids: list[str]) -> JobIn:
    body = {
        "kind": "batch",
        "model": model,
        "input": {"image_ids": list(dict.fromkeys(image_ids))},
        "params": {"operation": "embed"},
    }
    return validate_body(JobIn, orjson.dumps(body))


def idempotency_key(bundle: Bundle, image_ids: list[str]) -> str:
    """Return what is the same for the same images and model: a second setup makes no second job."""
    return "label-studio-" + sha256("\n".join([bundle.digest, *sorted(image_ids)]).encode()).hexdigest()
