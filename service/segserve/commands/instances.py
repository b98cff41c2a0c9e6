"""`segserve instances`: objects of known classes on an image by Mask R-CNN, with no server running."""

import asyncio
from pathlib import Path
from typing import Annotated

import orjson
import typer

from segserve.commands.common_options import DataDir, PolygonTolerance, load_quiet_settings
from segserve.commands.output_file import choose_image_format, explain_label_map
from segserve.commands.single_image import Image, Page, Read, open_image, parse_read_options
from segserve.masks import crop
from segserve.settings import Settings
from segserve.types import ImageObjects, ReadOptions
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.instances import find_instances
from segserve.wire.results import objects
from segserve.wire.schemas.instances import InstancesIn


def instances(
    image: Image,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="The objects as .json, or the label map as .png, .tif or .npy."),
    ],
    model: Annotated[
        str | None, typer.Option(help="Name of a model of kind instances [default: the default model].")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="overlay, coco, rle, polygon, ... [default: by the output's suffix].")
    ] = None,
    score_threshold: Annotated[
        float | None, typer.Option(help="Keep objects with a higher score [default: the model's].")
    ] = None,
    nms_threshold: Annotated[
        float | None,
        typer.Option(help="Boxes with a higher IoU count as one object (NMS) [default: the model's]."),
    ] = None,
    mask_threshold: Annotated[
        float | None, typer.Option(help="The probability that a pixel needs [default: the model's].")
    ] = None,
    max_objects: Annotated[
        int | None, typer.Option(help="Keep the objects with the best scores [default: the model's].")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes to keep, with commas between [default: all].")
    ] = None,
    tolerance: PolygonTolerance = None,
    read: Read = None,
    page: Page = None,
    data_dir: DataDir = None,
) -> None:
    """Find the objects of known classes on an image. Needs no server."""
    settings = load_quiet_settings(data_dir=data_dir)
    body = {
        "image_id": "",
        "model": model,
        "format": choose_image_format(output, format, json="rle"),
        "tolerance": tolerance,
        "score_threshold": score_threshold,
        "nms_threshold": nms_threshold,
        "mask_threshold": mask_threshold,
        "max_objects": max_objects,
        "classes": [name.strip() for name in classes.split(",")] if classes else None,
    }
    request, options = validate_body(InstancesIn, orjson.dumps(body)), parse_read_options(read or [], page)
    content, result = asyncio.run(segment_image(settings, image, options, request))
    output.write_bytes(content)
    for segmented in result.objects:
        area = crop.area(segmented.crop)
        typer.echo(f"{segmented.category}: score {segmented.score:.2f}, {area} pixels")
    typer.echo(f"{output}: {len(result.objects)} objects")
    explain_label_map(output, str(body["format"]), "1 to N for the objects", "--format overlay")


async def segment_image(
    settings: Settings, image: Path, options: ReadOptions, request: InstancesIn
) -> tuple[bytes, ImageObjects]:
    """Return the objects, as bytes in the requested format and as they are."""
    async with open_image(settings, image, options) as (service, image_id):
        result, (content, _) = await find_instances(
            service,
            request.model_copy(update={"image_id": image_id}),
            lambda result, pixels: objects.write_objects(result, request.format, pixels, request.tolerance),
            service.new_timings(),
        )
    return content, result
