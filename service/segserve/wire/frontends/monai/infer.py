"""POST /infer/{model}: the volume of a request, segmented by the task that the model's name means."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from segserve.app import Service
from segserve.errors import BadInput, NotFound
from segserve.files.fetch_dicomweb import UID
from segserve.wire.frontends.monai.click import click_in_volume, click_on_slice
from segserve.wire.frontends.monai.datastore import Datastore
from segserve.wire.frontends.monai.models import Task, TaskKind
from segserve.wire.frontends.monai.params import InferIn
from segserve.wire.frontends.monai.results import Labels
from segserve.wire.frontends.monai.volumes import Volume, Volumes
from segserve.wire.frontends.monai.whole_volume import find_all_objects, find_classes

TASKS = {
    TaskKind.CLICK_2D: click_on_slice,
    TaskKind.CLICK_3D: click_in_volume,
    TaskKind.AUTOMATIC: find_all_objects,
    TaskKind.CLASSES: find_classes,
}


async def find_volume(volumes: Volumes, datastore: Datastore, image: str) -> Volume:
    """Return the volume that `image` names: one of the datastore, else a series by its UID.

    Raises BadInput, NotFound, and what `Volumes.find_series` raises.
    """
    if not image:
        raise BadInput(
            "Nothing says which volume is meant.",
            field="image",
            remedy="Send image or session_id in the query, or the volume as field 'file'.",
        )
    try:
        record = await datastore.get_image(image)
    except NotFound:
        if not UID.fullmatch(image):
            raise
        return await volumes.find_series(image)
    if not record.extension and UID.fullmatch(image):
        return await volumes.find_series(image)
    return await volumes.find_stored(record.digest, lambda: datastore.open_image(image))


@asynccontextmanager
async def run_task(
    service: Service, volumes: Volumes, task: Task, volume: Volume, params: InferIn
) -> AsyncIterator[Labels]:
    """Segment a volume. The labels' memory is held while the block runs.

    Raises TooLarge, Busy, and what the tasks raise.
    """
    async with volumes.hold_labels(volume):
        start = time.perf_counter()
        labels = await TASKS[task.kind](service, volumes, task, volume, params)
        seconds = round(time.perf_counter() - start, 3)
        latencies = {"pre": 0, "infer": seconds, "invert": 0, "post": 0, "write": 0, "total": seconds}
        yield replace(labels, details={**labels.details, "latencies": latencies})
