"""`segserve similar`: more objects like a few examples, with no server running."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import typer

from segserve.commands.common_options import (
    DataDir,
    Model,
    PolygonTolerance,
    load_quiet_settings,
    parse_numbers,
    parse_params,
    print_hints,
)
from segserve.commands.output_file import choose_map_outputs, explain_label_map
from segserve.commands.single_image import Image, Page, Read, open_image, parse_read_options
from segserve.errors import BadInput
from segserve.evaluate.ground_truth import read_label_map
from segserve.masks import crop
from segserve.settings import Settings
from segserve.types import DEFAULT_TENANT, ImageObjects, ReadOptions
from segserve.wire.operations import automatic as automatic_operation
from segserve.wire.operations import similar as operation
from segserve.wire.operations.common import validate_body
from segserve.wire.results.objects import crop_to_rle
from segserve.wire.schemas.objects import ResultFormat
from segserve.wire.schemas.similar import SimilarIn


def similar(
    image: Image,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="The objects as .json, or the label map as .png, .tif or .npy."),
    ],
    point: Annotated[
        list[str] | None, typer.Option(help="x,y on an example. Each is an example of its own.")
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option(help="x0,y0,x1,y1 around an example. Each is an example of its own.")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="A label map whose objects are examples.", exists=True, dir_okay=False),
    ] = None,
    example_image: Annotated[
        Path | None,
        typer.Option(
            help="The image that the examples are on, if it is another one.", exists=True, dir_okay=False
        ),
    ] = None,
    format: Annotated[
        ResultFormat | None, typer.Option(help="Format of the output [default: by its suffix].")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="name=value, such as min_likeness=0.7. Can be repeated.")
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="Also write a PNG of the image with its objects in colour.")
    ] = None,
    tolerance: PolygonTolerance = None,
    read: Read = None,
    page: Page = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Find more objects like a few examples. Needs no server."""
    settings = load_quiet_settings(data_dir=data_dir, default_model=model)
    outputs = choose_map_outputs(output, format, overlay, json="rle")
    body = {
        "image_id": "",
        "format": outputs[output],
        "tolerance": tolerance,
        "examples": parse_examples(point or [], box or [], masks),
        "params": parse_params(param or []),
    }
    request = validate_body(SimilarIn, orjson.dumps(body))
    result = asyncio.run(
        find_objects(settings, image, example_image, parse_read_options(read or [], page), request, outputs)
    )
    print_hints(result.hints)
    typer.echo(f"{output}: {len(result.objects)} objects")
    if overlay is None:
        explain_label_map(output, outputs[output], "1 to N for the objects", "--overlay look.png")


def parse_examples(points: list[str], boxes: list[str], masks: Path | None) -> list[dict[str, Any]]:
    """Return the examples as the JSON of a request. Raises BadInput that names the option at fault."""
    examples: list[dict[str, Any]] = [{"points": [parse_numbers(text, 2, "--point")]} for text in points]
    examples += [{"box": parse_numbers(text, 4, "--box")} for text in boxes]
    if masks is not None:
        labels = read_label_map(masks)
        examples += [
            {"mask": crop_to_rle(crop.from_mask(labels == value))} for value in np.unique(labels[labels > 0])
        ]
    if not examples:
        raise BadInput(
            "There are no examples.",
            field="--point",
            remedy="Give --point x,y or --box x0,y0,x1,y1 on one object or several, or --masks.",
        )
    return examples


async def find_objects(
    settings: Settings,
    image: Path,
    example_image: Path | None,
    options: ReadOptions,
    request: SimilarIn,
    outputs: dict[Path, ResultFormat],
) -> ImageObjects:
    """Find the objects and write each output in its format. options: how both images are read."""
    async with open_image(settings, image, options) as (service, image_id):
        ids = {"image_id": image_id}
        if example_image is not None:
            with example_image.open("rb") as file:
                record = await service.images.add(DEFAULT_TENANT, file, options)
            ids["example_image_id"] = record.image_id
        timings = service.new_timings()
        result = await operation.find_similar(service, request.model_copy(update=ids), timings)
        for path, result_format in outputs.items():
            content, _ = await automatic_operation.write_objects(
                service, result, result_format, timings, request.tolerance
            )
            path.write_bytes(content)
    return result
