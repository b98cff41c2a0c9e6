"""`segserve instances`: objects of known classes on a picture, with no server running."""

import asyncio
from pathlib import Path
from typing import Annotated

import orjson
import typer

from segserve.commands.single_image import DataDir, Image, format_of, holding, quiet_settings
from segserve.masks import crop
from segserve.settings import Settings
from segserve.types import ImageObjects
from segserve.wire.operations.instances import find_instances
from segserve.wire.operations.segment import validate_body
from segserve.wire.results import objects
from segserve.wire.schemas.instances import InstancesIn


def instances(
    image: Image,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The objects, .json; or the label map, .png, .tif or .npy.")
    ],
    model: Annotated[str | None, typer.Option(help="Which model; one of kind instances.")] = None,
    format: Annotated[
        str | None, typer.Option(help="overlay, coco, rle, polygon, ... [default: by the output's suffix].")
    ] = None,
    score_threshold: Annotated[
        float | None, typer.Option(help="Objects have a higher score [default: the model's].")
    ] = None,
    nms_threshold: Annotated[
        float | None, typer.Option(help="IoU of boxes of one object [default: the model's].")
    ] = None,
    mask_threshold: Annotated[
        float | None, typer.Option(help="The probability a pixel needs [default: the model's].")
    ] = None,
    max_objects: Annotated[int | None, typer.Option(help="The best ones [default: the model's].")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A class to look for; may be repeated.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Find the objects of known classes on a picture, with no server running."""
    settings = quiet_settings(data_dir=data_dir)
    asked = {
        "image_id": "",
        "model": model,
        "format": format_of(output, format, json="rle"),
        "score_threshold": score_threshold,
        "nms_threshold": nms_threshold,
        "mask_threshold": mask_threshold,
        "max_objects": max_objects,
        "classes": only or None,
    }
    content, found = asyncio.run(find_in(settings, image, validate_body(InstancesIn, orjson.dumps(asked))))
    output.write_bytes(content)
    for each in found.objects:
        typer.echo(f"{each.category}: score {each.score:.2f}, {crop.area(each.crop)} pixels")
    typer.echo(f"{output}: {len(found.objects)} objects")


async def find_in(settings: Settings, image: Path, asked: InstancesIn) -> tuple[bytes, ImageObjects]:
    """What was found, as bytes and as objects."""
    async with holding(settings, image) as (service, image_id):
        found, (content, _) = await find_instances(
            service,
            asked.model_copy(update={"image_id": image_id}),
            lambda found, pixels: objects.write_objects(found, asked.format, pixels),
            service.timings(),
        )
    return content, found
