"""`segserve video`, `segserve volume` and `segserve track`: objects through a clip or a volume, here or by a server."""

from pathlib import Path
from typing import Annotated, Any

import typer

from segserve.commands.prompt_options import objects_of
from segserve.commands.server_client import Server, bar, format_of, serving, whole
from segserve.commands.single_image import DataDir, Model, parameters
from segserve.errors import BadInput
from segserve.jobs.engine.job import Kind
from segserve.jobs.kinds.job_requests import Engine
from segserve.types import Direction

Output = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help="Where to write: .mp4 or .png to look at; .ndjson, COCO as .json; label maps as .zip or .tif.",
    ),
]
VolumeOutput = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help="Where to write: labels as .nii.gz, .nrrd, .mha or .tif; .png to look at; .ndjson, COCO as .json; label"
        " maps as .zip.",
    ),
]
Point = Annotated[
    list[str] | None,
    typer.Option(help="x,y@FRAME on the object, or N:x,y@FRAME on object N; may be repeated."),
]
Negative = Annotated[list[str] | None, typer.Option(help="The same, not on the object.")]
Box = Annotated[
    list[str] | None, typer.Option(help="x0,y0,x1,y1@FRAME around the object, or N:...; may be repeated.")
]
Towards = Annotated[Direction | None, typer.Option(help="From the prompts [default: both].")]


By = Annotated[Engine | None, typer.Option(help="How objects are followed [default: as the model can].")]
Params = Annotated[
    list[str] | None,
    typer.Option(help="name=value of finding the objects, such as min_size=50; may be repeated."),
]


def video(
    clip: Annotated[
        Path, typer.Argument(help="The clip: a video, or a stack of frames.", exists=True, dir_okay=False)
    ],
    output: Output,
    point: Point = None,
    negative: Negative = None,
    box: Box = None,
    direction: Towards = None,
    engine: By = None,
    server: Server = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Follow objects through a clip, from points or boxes on any of its frames."""
    objects = objects_of(point or [], negative or [], box or [], "frame")
    if not objects:
        raise nothing_asked("--point x,y@frame or --box x0,y0,x1,y1@frame")
    params = {"objects": objects, "direction": direction, "engine": engine}
    carry_out(Kind.VIDEO, clip, output, params, server, model, data_dir)


def volume(
    file: Annotated[Path, typer.Argument(help="The volume, or a stack.", exists=True, dir_okay=False)],
    output: VolumeOutput,
    point: Point = None,
    negative: Negative = None,
    box: Box = None,
    automatic: Annotated[
        bool, typer.Option("--automatic", help="All objects of every slice, joined across them.")
    ] = False,
    param: Params = None,
    axis: Annotated[
        int | None,
        typer.Option(min=0, max=2, help="To cut along; 0: the slices as they are stored [default: 0]."),
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="low,high: values that become black and white [default: percentiles].")
    ] = None,
    direction: Towards = None,
    engine: By = None,
    server: Server = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Follow objects through a volume, from points or boxes on any of its slices; or find all of them."""
    objects = objects_of(point or [], negative or [], box or [], "slice")
    params: dict[str, Any] = {"axis": axis, "window": window and low_high(window), "direction": direction}
    if automatic:
        if objects or engine:
            raise BadInput(
                "It takes no points, no boxes and no --engine.",
                field="--automatic",
                remedy="Leave one or the other out.",
            )
        params |= {"engine": "automatic", "automatic": parameters(param or []) or None}
    elif not objects:
        raise nothing_asked("--point x,y@slice, --box x0,y0,x1,y1@slice or --automatic")
    elif param:
        raise BadInput("It goes with --automatic.", field="--param", remedy="Leave it out.")
    else:
        params |= {"engine": engine, "objects": objects}
    carry_out(Kind.VOLUME, file, output, params, server, model, data_dir)


def track(
    clip: Annotated[
        Path, typer.Argument(help="The clip: a video, or a stack of frames.", exists=True, dir_okay=False)
    ],
    output: Output,
    param: Params = None,
    link: Annotated[
        list[str] | None,
        typer.Option(help="name=value of linking them, such as cutoff=30; may be repeated."),
    ] = None,
    server: Server = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Find all objects of every frame and link them to tracks."""
    params = {
        "params": parameters(param or []) or None,
        "linking": parameters(link or [], "--link") or None,
    }
    carry_out(Kind.TRACKING, clip, output, params, server, model, data_dir)


def nothing_asked(remedy: str) -> BadInput:
    return BadInput("There is nothing to follow.", field="--point", remedy=f"Give {remedy}.")


def low_high(text: str) -> list[float]:
    try:
        low, high = (float(each) for each in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise BadInput(f"{text!r} is not low,high.", field="--window", remedy="Example: --window -160,240.")
    return [low, high]


def body_of(kind: Kind, file_id: str, model: str | None, params: dict[str, Any]) -> dict[str, Any]:
    """The body of POST /v1/jobs. What is None is left to the service."""
    given = {name: value for name, value in params.items() if value is not None}
    return {
        "kind": kind.value,
        "model": model,
        "priority": "interactive",
        "input": {"file_id": file_id},
        "params": given,
    }


def carry_out(
    kind: Kind,
    file: Path,
    output: Path,
    params: dict[str, Any],
    server: str | None,
    model: str | None,
    data_dir: Path | None,
) -> None:
    asked = format_of(output, kind)
    with serving(server, data_dir) as remote:
        stored = remote.upload(file)
        with bar("slices" if kind is Kind.VOLUME else "frames", None) as told:
            job = remote.work(body_of(kind, stored["file_id"], model, params), told)
        with whole(output) as out:
            remote.results(job, asked, out)
    typer.echo(f"{output}: {stored['frames']} {'slices' if kind is Kind.VOLUME else 'frames'}")
