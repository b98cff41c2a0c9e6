"""`segserve semantic`: a class for every pixel of an image, with no server running."""

import asyncio
from pathlib import Path
from typing import Annotated

import orjson
import typer

from segserve.commands.common_options import DataDir, PolygonTolerance, load_quiet_settings
from segserve.commands.output_file import choose_image_format, explain_label_map
from segserve.commands.single_image import Image, Page, Read, open_image, parse_read_options
from segserve.settings import Settings
from segserve.types import ReadOptions
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.semantic import SemanticAnswer, segment_semantic
from segserve.wire.schemas.semantic import SemanticIn


def semantic(
    image: Image,
    output: Annotated[Path, typer.Option("-o", "--output", help="The class map: .png, .tif, .npy or .json.")],
    model: Annotated[
        str | None,
        typer.Option(
            envvar="SEGSERVE_DEFAULT_SEMANTIC_MODEL", help="Name of the model [default: starter-unet]."
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="overlay, coco, rle, polygon, probabilities, ... [default: by the output's suffix]."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="The probability that a class needs [default: the model's].")
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(help="Overlap of neighbouring tiles, as a fraction of a tile [default: the model's]."),
    ] = None,
    tta_flips: Annotated[
        str,
        typer.Option(
            help="Mirror the tiles too and average the answers: none, horizontal, vertical or both."
        ),
    ] = "none",
    tolerance: PolygonTolerance = None,
    read: Read = None,
    page: Page = None,
    data_dir: DataDir = None,
) -> None:
    """Give every pixel of an image a class. Needs no server."""
    settings = load_quiet_settings(data_dir=data_dir, default_semantic_model=model)
    body = {
        "image_id": "",
        "format": choose_image_format(output, format, json="rle"),
        "tolerance": tolerance,
        "threshold": threshold,
        "overlap": overlap,
        "tta_flips": tta_flips,
    }
    request, options = validate_body(SemanticIn, orjson.dumps(body)), parse_read_options(read or [], page)
    answer = asyncio.run(segment_image(settings, image, options, request))
    output.write_bytes(answer.content)
    for item in answer.class_map.classes:
        typer.echo(f"{item.value} {item.name}: {item.area} pixels, {100 * item.fraction:.1f}%")
    explain_label_map(output, str(body["format"]), "1 to N for the classes", "--format overlay")


async def segment_image(
    settings: Settings, image: Path, options: ReadOptions, request: SemanticIn
) -> SemanticAnswer:
    """Return the class map and its bytes in the requested format."""
    async with open_image(settings, image, options) as (service, image_id):
        return await segment_semantic(
            service, request.model_copy(update={"image_id": image_id}), service.new_timings()
        )
