"""`segserve segment`: one object of an image by points and a box, with no server running."""

import asyncio
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from segserve.commands.common_options import DataDir, Model, load_quiet_settings, parse_numbers, print_hints
from segserve.commands.output_file import check_png
from segserve.commands.single_image import Image, Page, Read, open_image, parse_read_options
from segserve.decode.segmenter import MaskResult
from segserve.errors import BadInput
from segserve.masks import crop, png
from segserve.settings import Settings
from segserve.timing import Timings
from segserve.types import DEFAULT_TENANT, Box, Prompt, ReadOptions, Select
from segserve.wire.operations.hints import hint_low_scores


def segment(
    image: Image,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The mask, a 1-bit PNG: its name ends with .png.")
    ],
    point: Annotated[list[str] | None, typer.Option(help="x,y on the object. Can be repeated.")] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="x,y that is not on the object. Can be repeated.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="x0,y0,x1,y1 around the object.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The model's own mask, not cleaned.")] = False,
    read: Read = None,
    page: Page = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Segment one object of an image. Needs no server."""
    settings = load_quiet_settings(data_dir=data_dir, default_model=model)
    prompt = parse_prompt(point or [], negative or [], box)
    options = parse_read_options(read or [], page)
    check_png(output, "--output")
    result, timings, hints = asyncio.run(segment_image(settings, image, options, prompt, raw=raw))
    output.write_bytes(result.rendered)
    best, ms = result.candidate, 1000 * timings.seconds["decode"]
    print_hints(hints)
    typer.echo(f"{output}: {crop.area(best.crop)} pixels, score {best.score:.2f}, decoded in {ms:.0f} ms")


def parse_prompt(points: list[str], negatives: list[str], box: str | None) -> Prompt:
    """Parse the options into a prompt. Raises BadInput that names the option at fault."""
    if not (points or negatives or box):
        raise BadInput(
            "There is no prompt.",
            field="--point",
            remedy="Give --point x,y or --box x0,y0,x1,y1.",
        )
    coords = [parse_numbers(text, 2, "--point") for text in points]
    coords += [parse_numbers(text, 2, "--negative") for text in negatives]
    labels = [1] * len(points) + [0] * len(negatives)
    corners = None if box is None else Box(*parse_numbers(box, 4, "--box"))
    if corners is not None and not (corners.x0 < corners.x1 and corners.y0 < corners.y1):
        raise BadInput(
            "The box is empty or reversed.", field="--box", remedy="Give x0,y0,x1,y1 with x0 < x1, y0 < y1."
        )
    return Prompt(np.array(coords, np.float32).reshape(-1, 2), np.array(labels, np.int64), corners)


async def segment_image(
    settings: Settings, image: Path, options: ReadOptions, prompt: Prompt, *, raw: bool
) -> tuple[MaskResult[bytes], Timings, tuple[str, ...]]:
    """Return the best mask with its PNG, the time that each stage took, and hints."""
    async with open_image(settings, image, options) as (service, image_id):
        timings = service.new_timings()
        answer = await service.segmenter.segment(
            DEFAULT_TENANT,
            image_id,
            settings.default_model,
            [prompt],
            multimask=None,
            select=Select.BEST,
            raw=raw,
            render=lambda candidate: png.encode(candidate.crop),
            timings=timings,
        )
        best = answer.results[0][0]
        hints = await hint_low_scores(service, answer.model, [best.candidate.score])
    return best, timings, hints
