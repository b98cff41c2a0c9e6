"""The instances route's part that REST, gRPC and the command line share."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from segserve.app import Service
from segserve.errors import BadInput
from segserve.models.manifest import InstancesManifest
from segserve.timing import Timings
from segserve.types import DEFAULT_TENANT, ImageObjects, UInt8
from segserve.wire.schemas.instances import InstancesIn

T = TypeVar("T")


async def find_instances(
    service: Service, asked: InstancesIn, render: Callable[[ImageObjects, UInt8], T], timings: Timings
) -> tuple[ImageObjects, T]:
    """Raises as `InstanceSegmenter.find` does, and BadInput where no model is named and the default is of another
    kind."""
    model = asked.model
    if model is None:
        model = await asyncio.to_thread(default_model, service)
    return await service.instances.segment(
        DEFAULT_TENANT, asked.image_id, model, asked.build(), render, timings
    )


def default_model(service: Service) -> str:
    """Raises BadInput."""
    name, bundles = service.settings.default_model, service.registry.bundles()
    able = [b.name for b in bundles.values() if isinstance(b.manifest, InstancesManifest)]
    if name in able:
        return name
    raise BadInput(
        f"No model is named, and the service's default, {name!r}, finds no objects of known classes.",
        field="model",
        remedy=f"Name one of: {', '.join(able)}."
        if able
        else "There is none here yet: segserve models pull mask-rcnn-resnet50-fpn",
    )
