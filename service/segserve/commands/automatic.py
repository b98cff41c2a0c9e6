"""`segserve automatic`: all objects of a picture, with no server running."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from segserve.commands.single_image import (
    DataDir,
    Image,
    Model,
    format_of,
    holding,
    parameters,
    quiet_settings,
)
from segserve.settings import Settings
from segserve.wire.operations import automatic as wire
from segserve.wire.operations.segment import validate_body
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.common import ResultFormat


def automatic(
    image: Image,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Where to write: a label map as .png, .tif or .npy, or COCO as .json."
        ),
    ],
    method: Annotated[str, typer.Option(help="How to find the objects: ais or amg.")] = "ais",
    format: Annotated[
        ResultFormat | None, typer.Option(help="What to write [default: by the output's suffix].")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="name=value, such as min_size=50; may be repeated.")
    ] = None,
    overlay: Annotated[Path | None, typer.Option(help="Also a coloured PNG, to look at.")] = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Find all objects of a picture, with no server running."""
    settings = quiet_settings(data_dir=data_dir, default_model=model)
    outputs = {output: ResultFormat(format_of(output, format, json="coco"))}
    if overlay is not None:
        outputs[overlay] = ResultFormat.OVERLAY
    asked = validate_body(AutomaticIn, {"image_id": "", "method": method, "params": parameters(param or [])})
    count, seconds = asyncio.run(find_and_write(settings, image, asked, outputs))
    typer.echo(f"{output}: {count} objects in {1000 * seconds:.0f} ms")


async def find_and_write(
    settings: Settings, image: Path, asked: AutomaticIn, outputs: dict[Path, ResultFormat]
) -> tuple[int, float]:
    """Write each output in its format -> (objects, seconds that finding them took)."""
    async with holding(settings, image) as (service, image_id):
        chosen = AutomaticIn(asked.root.model_copy(update={"image_id": image_id}))
        timings, begun = service.timings(), time.perf_counter()
        found = await wire.find_objects(service, chosen, timings)
        seconds = time.perf_counter() - begun
        for path, result_format in outputs.items():
            content, _ = await wire.write_objects(service, found, result_format, timings)
            path.write_bytes(content)
    return len(found.objects), seconds
