"""`segserve volume`: objects followed through a volume, or all objects of it, here or by a server."""

from pathlib import Path
from typing import Annotated, Any

import typer

from segserve.commands.common_options import DataDir, Model, parse_params
from segserve.commands.file_job import (
    DirectionOption,
    EngineOption,
    MethodParams,
    SeriesOption,
    TimeOption,
    no_prompts_error,
    run_file_job,
)
from segserve.commands.prompt_options import Box, Negative, Point, parse_objects
from segserve.commands.server_client import ApiKeyFile, ServerUrl
from segserve.errors import BadInput
from segserve.jobs.engine.job import JobKind
from segserve.types import FileOptions

VolumeOutput = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help="The output: a label volume as .nii.gz, .nrrd, .mha or .tif, DICOM SEG as .dcm, a contact sheet as .png,"
        " label maps as .zip, COCO as .json, or lines of JSON as .ndjson.",
    ),
]
AxisOption = Annotated[
    int | None,
    typer.Option(
        "--axis",
        min=0,
        max=2,
        help="The axis to slice along; 0 takes the slices as they are stored [default: 0].",
    ),
]
WindowOption = Annotated[
    str | None,
    typer.Option(
        "--window",
        help="low,high: the values that become black and white [default: those of a DICOM file, or two percentiles].",
    ),
]


def volume(
    file: Annotated[
        Path, typer.Argument(help="The volume, a stack, or a folder of DICOM files.", exists=True)
    ],
    output: VolumeOutput,
    point: Point = None,
    negative: Negative = None,
    box: Box = None,
    automatic: Annotated[
        bool, typer.Option("--automatic", help="Find all objects of every slice and join them across slices.")
    ] = False,
    param: MethodParams = None,
    axis: AxisOption = None,
    window: WindowOption = None,
    direction: DirectionOption = None,
    engine: EngineOption = None,
    series: SeriesOption = None,
    time: TimeOption = None,
    server: ServerUrl = None,
    api_key_file: ApiKeyFile = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Follow objects through a volume, or find all of them.

    Mark each object with points or a box on any of its slices, or give --automatic.
    """
    objects = parse_objects(point or [], negative or [], box or [], "slice")
    params: dict[str, Any] = {"axis": axis, "window": window and parse_window(window), "direction": direction}
    if automatic:
        if objects or engine:
            raise BadInput(
                "It takes no points, no boxes and no --engine.",
                field="--automatic",
                remedy="Leave one or the other out.",
            )
        params |= {"engine": "automatic", "automatic": parse_params(param or []) or None}
    elif not objects:
        raise no_prompts_error("--point x,y@slice, --box x0,y0,x1,y1@slice or --automatic")
    else:
        params |= {**parse_params(param or []), "engine": engine, "objects": objects}
    run_file_job(
        JobKind.VOLUME, file, output, params, server, api_key_file, model, data_dir, FileOptions(series, time)
    )


def parse_window(text: str) -> list[float]:
    """Parse "low,high". Raises BadInput where it is not two numbers in ascending order."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise BadInput(f"{text!r} is not low,high.", field="--window", remedy="Example: --window -160,240.")
    return [low, high]
