"""`segserve segment`: one object of a picture, with no server running."""

import asyncio
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from segserve.commands.single_image import DataDir, Image, Model, holding, quiet_settings
from segserve.decode.segmenter import MaskResult
from segserve.errors import BadInput
from segserve.masks import crop, png
from segserve.settings import Settings
from segserve.timing import Timings
from segserve.types import DEFAULT_TENANT, Box, Prompt, Select


def segment(
    image: Image,
    output: Annotated[Path, typer.Option("-o", "--output", help="The mask, a 1-bit PNG.")],
    point: Annotated[list[str] | None, typer.Option(help="x,y on the object; may be repeated.")] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="x,y not on the object; may be repeated.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1 around the object.")] = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Segment one object of a picture, with no server running."""
    settings = quiet_settings(data_dir=data_dir, default_model=model)
    prompt = prompt_of(point or [], negative or [], box)
    found, timings = asyncio.run(decode(settings, image, prompt))
    output.write_bytes(found.rendered)
    best, ms = found.candidate, 1000 * timings.seconds["decode"]
    typer.echo(f"{output}: {crop.area(best.crop)} pixels, score {best.score:.2f}, decoded in {ms:.0f} ms")


def prompt_of(points: list[str], negatives: list[str], box: str | None) -> Prompt:
    """Raises BadInput naming the option at fault."""
    if not (points or negatives or box):
        raise BadInput(
            "There is nothing to segment by.",
            field="--point",
            remedy="Give --point x,y or --box x0,y0,x1,y1.",
        )
    coords = [numbers(each, 2, "--point") for each in points]
    coords += [numbers(each, 2, "--negative") for each in negatives]
    labels = [1] * len(points) + [0] * len(negatives)
    corners = None if box is None else Box(*numbers(box, 4, "--box"))
    if corners is not None and not (corners.x0 < corners.x1 and corners.y0 < corners.y1):
        raise BadInput(
            "The box is empty or reversed.", field="--box", remedy="Give x0,y0,x1,y1 with x0 < x1, y0 < y1."
        )
    return Prompt(np.array(coords, np.float32).reshape(-1, 2), np.array(labels, np.int64), corners)


def numbers(text: str, count: int, option: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        raise BadInput(
            f"{text!r} is not {count} numbers with commas between.", field=option, remedy="Example: 120,80."
        )
    return values


async def decode(settings: Settings, image: Path, prompt: Prompt) -> tuple[MaskResult[bytes], Timings]:
    """The best mask, its PNG, and how long it took."""
    async with holding(settings, image) as (service, image_id):
        timings = service.timings()
        answer = await service.segmenter.segment(
            DEFAULT_TENANT,
            image_id,
            settings.default_model,
            [prompt],
            multimask=None,
            select=Select.BEST,
            render=lambda candidate: png.encode(candidate.crop),
            timings=timings,
        )
    return answer.results[0][0], timings
