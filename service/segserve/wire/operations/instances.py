"""Objects of known classes (Mask R-CNN), as REST, gRPC, batch jobs and the command line call it."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from segserve.app import Service
from segserve.identity.identity import current_tenant
from segserve.timing import Timings
from segserve.types import ImageObjects, UInt8
from segserve.wire.operations.models import default_instances_model
from segserve.wire.schemas.instances import InstancesIn

T = TypeVar("T")


async def find_instances(
    service: Service, request: InstancesIn, render: Callable[[ImageObjects, UInt8], T], timings: Timings
) -> tuple[ImageObjects, T]:
    """Find the objects, and return them with what `render` makes of them and of the image [H, W, 3].

    Raises as `InstanceSegmenter.segment` does, and as `default_instances_model` where the request names no model.
    """
    model = request.model
    if model is None:
        model = await asyncio.to_thread(default_instances_model, service)
    return await service.instances.segment(
        current_tenant(), request.image_id, model, request.to_options(), render, timings
    )
