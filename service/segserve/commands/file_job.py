"""Shared by `video`, `volume` and `track`: their options, and one job on one uploaded file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from segserve.commands.check_extras import check_extras
from segserve.commands.folder_zip import zip_if_folder
from segserve.commands.output_file import choose_format_by_suffix, write_atomically
from segserve.commands.server_client import (
    connect_to_server,
    download_results,
    get_formats_by_suffix,
    run_job,
    upload_file,
)
from segserve.errors import BadInput
from segserve.jobs.engine.job import JobKind
from segserve.jobs.kinds.job_requests import EngineName
from segserve.progress_bar import show_progress
from segserve.types import Direction, FileOptions
from segserve_client import JobInfo, StoredFile

Clip = Annotated[
    Path, typer.Argument(help="The clip: a video, or a stack of frames.", exists=True, dir_okay=False)
]
Output = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        help="The output: an overlay as .mp4, a contact sheet as .png, label maps as .zip or .tif, COCO as .json, or"
        " lines of JSON as .ndjson.",
    ),
]
DirectionOption = Annotated[
    Direction | None,
    typer.Option("--direction", help="Where to follow objects to, from their prompts [default: both]."),
]
EngineOption = Annotated[
    EngineName | None,
    typer.Option(
        "--engine",
        help="memory: SAM 2's memory. projection: each mask is the prompt of the next frame"
        " [default: memory for a SAM 2 with its weights, otherwise projection].",
    ),
]
SeriesOption = Annotated[
    str | None,
    typer.Option(
        "--series",
        help="The series of a file that holds several: its name or its number from 0 [default: the largest].",
    ),
]
TimeOption = Annotated[
    int | None,
    typer.Option("--time", min=0, help="The point in time of a series that has several [default: 0]."),
]
MethodParams = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        help="name=value of finding the objects, such as min_size=50, or of following them, such as max_gap=20."
        " Can be repeated.",
    ),
]


def no_prompts_error(remedy: str) -> BadInput:
    return BadInput("There is nothing to follow.", field="--point", remedy=f"Give {remedy}.")


def create_job_request(
    kind: JobKind, file_id: str, model: str | None, params: dict[str, Any]
) -> dict[str, Any]:
    """Return the body of POST /v1/jobs. Params that are None are left out: the service has their defaults."""
    return {
        "kind": kind.value,
        "model": model,
        "priority": "interactive",
        "input": {"file_id": file_id},
        "params": {name: value for name, value in params.items() if value is not None},
    }


def run_file_job(
    kind: JobKind,
    file: Path,
    output: Path,
    params: dict[str, Any],
    server_url: str | None,
    api_key_file: Path | None,
    model: str | None,
    data_dir: Path | None,
    options: FileOptions = FileOptions(),
) -> None:
    """Upload the file or folder, run the job and write its results in the format of the output's suffix."""
    result_format = choose_format_by_suffix(output, get_formats_by_suffix(kind))
    if server_url is None:
        check_extras(file, result_format)
    unit = "slices" if kind is JobKind.VOLUME else "frames"
    with connect_to_server(server_url, data_dir, api_key_file) as client:
        with zip_if_folder(file) as upload:
            stored = upload_file(client, upload, options, is_sent=server_url is not None)
        report_contents(stored)
        with show_progress(unit, None) as on_progress:
            job = run_job(client, create_job_request(kind, stored.file_id, model, params), on_progress)
        report_ends(job.info)
        with write_atomically(output) as out:
            download_results(job, result_format, out)
    typer.echo(f"{output}: {stored.frames} {unit}")


def report_ends(job: JobInfo) -> None:
    """Say where objects ended in a volume, or were lost in a video, so that they can be marked again there."""
    word = "ended at slice" if job.kind == JobKind.VOLUME else "lost at frame"
    if job.ends_count > len(job.ends):
        typer.echo(f"{job.ends_count} objects ended; the last {len(job.ends)} of them:", err=True)
    for end in job.ends:
        last = "never found" if end.last_frame is None else f"last found at {end.last_frame}"
        typer.echo(f"object {end.object_id} {word} {end.frame}: {end.reason} ({last})", err=True)


def report_contents(stored: StoredFile) -> None:
    """Say what was taken of a file that holds several things, and what was left out."""
    contents = stored.contents
    if len(contents) > 1 or any(content.times > 1 or content.notes for content in contents):
        for number, content in enumerate(contents):
            words = [f"{number}: {content.series}", content.description]
            words += [f"{content.frames} of {content.width}x{content.height}"]
            words += [f"{content.times} points in time"] if content.times > 1 else []
            words += [f"time {content.time} is taken" if content.taken else "", *content.notes]
            typer.echo(", ".join(word for word in words if word), err=True)
    if stored.left_out:
        names = ", ".join(f"{name} ({reason})" for name, reason in stored.left_out_files[:3])
        typer.echo(f"{stored.left_out} files left out: {names}", err=True)
