"""`segserve video`: objects followed through a video or a stack of frames, here or by a server."""

from segserve.commands.common_options import DataDir, Model, parse_params
from segserve.commands.file_job import (
    Clip,
    DirectionOption,
    EngineOption,
    MethodParams,
    Output,
    SeriesOption,
    TimeOption,
    no_prompts_error,
    run_file_job,
)
from segserve.commands.prompt_options import Box, Negative, Point, parse_objects
from segserve.commands.server_client import ApiKeyFile, ServerUrl
from segserve.jobs.engine.job import JobKind
from segserve.types import FileOptions


def video(
    clip: Clip,
    output: Output,
    point: Point = None,
    negative: Negative = None,
    box: Box = None,
    direction: DirectionOption = None,
    engine: EngineOption = None,
    param: MethodParams = None,
    series: SeriesOption = None,
    time: TimeOption = None,
    server: ServerUrl = None,
    api_key_file: ApiKeyFile = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Follow objects through a video.

    Mark each object with points or a box on any of its frames.
    """
    objects = parse_objects(point or [], negative or [], box or [], "frame")
    if not objects:
        raise no_prompts_error("--point x,y@frame or --box x0,y0,x1,y1@frame")
    params = {**parse_params(param or []), "objects": objects, "direction": direction, "engine": engine}
    run_file_job(
        JobKind.VIDEO, clip, output, params, server, api_key_file, model, data_dir, FileOptions(series, time)
    )
