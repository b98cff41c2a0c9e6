"""A volume or a picture segmented without clicks: all objects, or a class for each voxel."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from segserve.app import Service
from segserve.errors import TooLarge
from segserve.models.manifest import InstancesManifest
from segserve.types import Crop, FileKind, ImageObjects, UInt8, UInt16
from segserve.wire.frontends.monai.click import follow
from segserve.wire.frontends.monai.models import Task
from segserve.wire.frontends.monai.params import InferIn
from segserve.wire.frontends.monai.results import Labels
from segserve.wire.frontends.monai.volumes import Volume, Volumes
from segserve.wire.operations import automatic, instances, semantic
from segserve.wire.operations.common import validate_body
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.instances import InstancesIn
from segserve.wire.schemas.semantic import SemanticIn


async def find_all_objects(
    service: Service, volumes: Volumes, task: Task, volume: Volume, params: InferIn
) -> Labels:
    """Return all objects: as one label, or each as a label of its own. Raises what the operations raise."""
    name = task.bundle.name
    if volume.file is not None and volume.file.kind is FileKind.VOLUME and volume.slices > 1:
        window = {"window": params.window} if params.window else {}
        body = {
            "kind": "volume",
            "model": name,
            "priority": "interactive",
            "input": {"file_id": volume.file.file_id},
            "params": {**window, "engine": "automatic"},
        }
        values, details = await follow(service, body, volume)
        count = int(await asyncio.to_thread(values.max, initial=0))
    else:
        values, details, count = np.zeros(volume.shape, np.uint16), {}, 0
        for k in range(volume.slices):
            image_id = await volumes.get_slice(volume, k, params.window)
            request = validate_body(AutomaticIn, orjson.dumps({"image_id": image_id, "model": name}))
            found = await automatic.find_objects(service, request, service.new_timings())
            await asyncio.to_thread(draw_objects, values[k], found, count)
            count += len(found.objects)
    details = {**details, "objects": count}
    if params.separate_objects:
        names = {f"object {number}": number for number in range(1, count + 1)}
        return Labels(values, names, details, name)
    return Labels(await asyncio.to_thread(mark_objects, values), task.list_labels(()), details, name)


def mark_objects(values: UInt16) -> UInt8:
    """Return 1 where there is an object. Blocks."""
    return (values > 0).view(np.uint8)


def draw_objects(values: UInt16, found: ImageObjects, start: int) -> None:
    """Draw objects into a slice [H, W], numbered from start + 1. Blocks. Raises TooLarge where numbers run out."""
    if start + len(found.objects) > np.iinfo(values.dtype).max:
        raise TooLarge(
            f"There are more than {np.iinfo(values.dtype).max} objects.",
            field="image",
            remedy="Send fewer slices at once.",
        )
    for number, item in enumerate(found.objects, start + 1):
        draw_crop(values, item.crop, number)


def draw_crop(values: NDArray[Any], crop: Any, value: int) -> None:
    height, width = crop.pixels.shape
    values[crop.y : crop.y + height, crop.x : crop.x + width][crop.pixels] = value


def draw_instances(values: UInt8, crops: Sequence[Crop], numbers: Sequence[int]) -> None:
    """Draw objects into a slice [H, W], each with its number. Blocks."""
    for crop, number in zip(crops, numbers, strict=True):
        draw_crop(values, crop, number)


async def find_classes(
    service: Service, volumes: Volumes, task: Task, volume: Volume, params: InferIn
) -> Labels:
    """Return the class of each voxel, slice by slice. Raises what the operations raise."""
    names, values = task.list_labels(()), np.zeros(volume.shape, np.uint8)
    for k in range(volume.slices):
        image_id = await volumes.get_slice(volume, k, params.window)
        body = {"image_id": image_id, "model": task.bundle.name}
        if isinstance(task.bundle.manifest, InstancesManifest):
            request = validate_body(InstancesIn, orjson.dumps(body))
            found, _ = await instances.find_instances(
                service, request, lambda result, image: None, service.new_timings()
            )
            crops = [item.crop for item in found.objects]
            numbers = [names.get(item.category or "", 0) for item in found.objects]
            await asyncio.to_thread(draw_instances, values[k], crops, numbers)
        else:
            body["format"] = "npy"
            request_semantic = validate_body(SemanticIn, orjson.dumps(body))
            answer = await semantic.segment_semantic(service, request_semantic, service.new_timings())
            await asyncio.to_thread(np.copyto, values[k], answer.class_map.values)
    return Labels(values, names, {}, task.bundle.name)
