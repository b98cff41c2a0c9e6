"""`segserve track`: all objects of every frame, linked to tracks over time, here or by a server."""

from typing import Annotated

import typer

from segserve.commands.common_options import DataDir, Model, parse_params
from segserve.commands.file_job import Clip, MethodParams, Output, SeriesOption, TimeOption, run_file_job
from segserve.commands.server_client import ApiKeyFile, ServerUrl
from segserve.jobs.engine.job import JobKind
from segserve.types import FileOptions


def track(
    clip: Clip,
    output: Output,
    param: MethodParams = None,
    linking: Annotated[
        list[str] | None,
        typer.Option(help="name=value of linking the objects, such as cutoff=30. Can be repeated."),
    ] = None,
    series: SeriesOption = None,
    time: TimeOption = None,
    server: ServerUrl = None,
    api_key_file: ApiKeyFile = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Find all objects of every frame and link them to tracks."""
    params = {
        "params": parse_params(param or []) or None,
        "linking": parse_params(linking or [], "--linking") or None,
    }
    run_file_job(
        JobKind.TRACKING,
        clip,
        output,
        params,
        server,
        api_key_file,
        model,
        data_dir,
        FileOptions(series, time),
    )
