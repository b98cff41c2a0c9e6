"""All objects of an image, by whatever a model offers: classes, instances, or automatic segmentation."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from segserve.app import Service
from segserve.models.bundle import Bundle
from segserve.models.manifest import InstancesManifest, SemanticManifest
from segserve.types import ImageObjects
from segserve.wire.operations import automatic, instances, semantic
from segserve.wire.operations.common import validate_body
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.instances import InstancesIn
from segserve.wire.schemas.semantic import SemanticIn


async def find_all_objects(
    service: Service,
    bundle: Bundle,
    image_id: str,
    *,
    score_threshold: float | None = None,
    automatic_options: Mapping[str, Any] | None = None,
) -> ImageObjects:
    """Find the objects of an image; of a semantic model the area of each class.

    score_threshold: of POST /v1/instances; None takes the model's own.
    automatic_options: further fields of POST /v1/automatic.

    Raises BadInput, and what the operations raise.
    """
    request, timings = {"image_id": image_id, "model": bundle.name}, service.new_timings()
    match bundle.manifest:
        case SemanticManifest():
            body = validate_body(SemanticIn, orjson.dumps({**request, "format": "npy"}))
            answer = await semantic.segment_semantic(service, body, timings)
            return await asyncio.to_thread(answer.class_map.to_image_objects)
        case InstancesManifest():
            options = {} if score_threshold is None else {"score_threshold": score_threshold}
            checked = validate_body(InstancesIn, orjson.dumps({**request, **options}))
            found, _ = await instances.find_instances(service, checked, lambda result, image: None, timings)
            return found
        case _:
            asked = validate_body(AutomaticIn, orjson.dumps({**request, **(automatic_options or {})}))
            return await automatic.find_objects(service, asked, timings)
