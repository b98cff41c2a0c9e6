"""`segserve automatic`: all objects of an image by AIS or AMG, with no server running."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from segserve.commands.common_options import (
    DataDir,
    Model,
    PolygonTolerance,
    load_quiet_settings,
    parse_params,
    print_hints,
)
from segserve.commands.output_file import choose_map_outputs, explain_label_map
from segserve.commands.single_image import Image, Page, Read, open_image, parse_read_options
from segserve.settings import Settings
from segserve.types import ImageObjects, ReadOptions
from segserve.wire.operations import automatic as operation
from segserve.wire.operations.common import validate_body
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.objects import ResultFormat


def automatic(
    image: Image,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="The output: a label map as .png, .tif or .npy, or COCO as .json."
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="How to find the objects: ais or amg [default: ais where the model has it, else amg]."
        ),
    ] = None,
    format: Annotated[
        ResultFormat | None, typer.Option(help="Format of the output [default: by its suffix].")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(help="name=value of the method, such as min_size=50. Can be repeated."),
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="Also write a PNG of the image with its objects in colour.")
    ] = None,
    object_size: Annotated[
        float | None,
        typer.Option(
            help="Diameter of typical objects in pixels [default: estimated, where the model allows it]."
        ),
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Pixels of the model's input for each pixel of the image.")
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="The reference's own objects: background, hidden masks and specks too."),
    ] = False,
    tolerance: PolygonTolerance = None,
    read: Read = None,
    page: Page = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Find all objects of an image without prompts. Needs no server."""
    settings = load_quiet_settings(data_dir=data_dir, default_model=model)
    outputs = choose_map_outputs(output, format, overlay, json="coco")
    body = {
        "image_id": "",
        "format": outputs[output],
        "tolerance": tolerance,
        "method": method,
        "raw": raw,
        "object_size": object_size,
        "scale": scale,
        "params": parse_params(param or []),
    }
    request = validate_body(AutomaticIn, body)
    result, seconds = asyncio.run(
        segment_image(settings, image, parse_read_options(read or [], page), request, outputs)
    )
    print_hints(result.hints)
    typer.echo(f"{output}: {len(result.objects)} objects in {1000 * seconds:.0f} ms")
    if overlay is None:
        explain_label_map(output, outputs[output], "1 to N for the objects", "--overlay look.png")
    if result.scale is not None:
        typer.echo(f"scale {result.scale.scale:.3g}: {result.scale.reason}")


async def segment_image(
    settings: Settings,
    image: Path,
    options: ReadOptions,
    request: AutomaticIn,
    outputs: dict[Path, ResultFormat],
) -> tuple[ImageObjects, float]:
    """Find the objects and write each output in its format.

    Returns the objects, and the seconds that it took to find them.
    """
    async with open_image(settings, image, options) as (service, image_id):
        body = AutomaticIn(request.root.model_copy(update={"image_id": image_id}))
        timings, start = service.new_timings(), time.perf_counter()
        result = await operation.find_objects(service, body, timings)
        seconds = time.perf_counter() - start
        for path, result_format in outputs.items():
            content, _ = await operation.write_objects(
                service, result, result_format, timings, request.root.tolerance
            )
            path.write_bytes(content)
    return result, seconds
