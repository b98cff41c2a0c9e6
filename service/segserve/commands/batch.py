"""`segserve batch`: one operation on many images, here or by a server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, BinaryIO

import orjson
import typer

from segserve.commands.check_extras import check_extras
from segserve.commands.common_options import DataDir, Model, parse_params
from segserve.commands.output_file import choose_format_by_suffix, write_atomically
from segserve.commands.server_client import (
    ApiKeyFile,
    ServerUrl,
    cancel_on_error,
    connect_to_server,
    get_formats_by_suffix,
)
from segserve.commands.single_image import Page, warn_of_pages
from segserve.errors import BadInput
from segserve.files.zip_archive import PICTURE_SUFFIXES
from segserve.jobs.engine.job import JobKind
from segserve.progress_bar import show_progress
from segserve.wire.results import batch as batch_results
from segserve.wire.results.batch import Line
from segserve.wire.results.job_formats import JobFormat
from segserve_client import Client, Image, Problem, Unavailable

# Their default models are settings of the service; SEGSERVE_DEFAULT_MODEL is that of the other operations.
OPERATIONS_WITH_OWN_DEFAULT = ("semantic", "instances")


def batch(
    context: typer.Context,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.", exists=True)],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="The output: label maps as .zip, COCO as .json, or lines of JSON as .ndjson.",
        ),
    ],
    operation: Annotated[
        str, typer.Option(help="What to do with each image: automatic, semantic, instances or embed.")
    ] = "automatic",
    param: Annotated[
        list[str] | None,
        typer.Option(help="name=value of the operation, such as min_size=50 or method=amg. Can be repeated."),
    ] = None,
    page: Page = None,
    server: ServerUrl = None,
    api_key_file: ApiKeyFile = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Run one operation on many images.

    Images that fail are listed at the end; the others are done.
    """
    # By name: Typer has a copy of Click, whose enum is another.
    source = context.get_parameter_source("model")
    if source is not None and source.name == "ENVIRONMENT" and operation in OPERATIONS_WITH_OWN_DEFAULT:
        model = None
    result_format = choose_format_by_suffix(output, get_formats_by_suffix(JobKind.BATCH))
    if server is None:
        check_extras(None, result_format)
    options = parse_params(param or [])
    if operation == "automatic":
        options = build_automatic_options(options)
    params = {"operation": operation, "options": options}
    files = list_images(images)
    with TemporaryDirectory() as folder:
        lines_path = Path(folder) / "lines.ndjson"
        with connect_to_server(server, data_dir, api_key_file) as client, lines_path.open("wb") as lines:
            failed = run_batch(client, files, model, params, lines, page or 0)
        asyncio.run(write_results(lines_path, result_format, output))
    for name, reason in failed:
        typer.secho(f"{name}: {reason}", fg="red", err=True)
    typer.echo(f"{output}: {len(files) - len(failed)} of {len(files)} images")
    if failed:
        raise typer.Exit(1)


def build_automatic_options(params: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the operation automatic. params: of a method, and `method` unless it is the model's own."""
    method = params.pop("method", None)
    return {"params": params} if method is None else {"method": method, "params": params}


def list_images(paths: list[Path]) -> dict[str, Path]:
    """Return the files among `paths` and the image files of the folders among them, by the names for the results.

    Raises BadInput where there are none.
    """
    files: dict[str, Path] = {}
    for root in paths:
        inside = (
            sorted(p for p in root.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
            if root.is_dir()
            else [root]
        )
        for path in inside:
            name = str(path.relative_to(root if root.is_dir() else root.parent))
            files[name if name not in files else str(path)] = path
    if not files:
        raise BadInput(
            "There are no images.",
            field="IMAGES",
            remedy=f"Image files end with {', '.join(PICTURE_SUFFIXES)}.",
        )
    return files


def run_batch(
    client: Client,
    files: dict[str, Path],
    model: str | None,
    params: dict[str, Any],
    out: BinaryIO,
    page: int,
) -> list[tuple[str, str]]:
    """Upload the images, run the job and write its result lines into `out`.

    files: by name. params: of the job. page: of each image, from 0.

    Returns (name, reason) of each image that failed. Raises ClientError.
    """
    index_of = {name: index for index, name in enumerate(files)}
    images, failed = dict[str, Image](), list[tuple[str, str]]()

    def write_line(line: Line) -> None:
        if "error" in line:
            failed.append((line["name"], line["error"]["detail"]))
        out.write(orjson.dumps({**line, "index": index_of[line["name"]]}) + b"\n")

    with show_progress("sending images", len(files)) as on_progress:
        for name, path in files.items():
            try:
                images[name] = client.image(path, page=page)
                warn_of_pages(path, page, images[name].stored.pages)
            except Unavailable:
                raise  # says nothing about the image
            except Problem as problem:
                write_line({"name": name, "image_id": "", "error": problem.to_json()})
            on_progress(index_of[name] + 1, len(files))
    if not images:
        return failed
    body = {
        "kind": "batch",
        "model": model,
        "input": {"image_ids": [image.image_id for image in images.values()], "names": list(images)},
        "params": params,
    }
    job = client.submit(body)
    with show_progress("images", len(images)) as on_progress, cancel_on_error(client, job):
        for done, item in enumerate(job, 1):
            write_line(item.raw)
            on_progress(done, len(images))
    return failed


async def write_results(lines_path: Path, result_format: JobFormat, output: Path) -> None:
    """Write the result lines to the output in the requested format."""

    async def read_lines() -> AsyncIterator[bytes]:
        with lines_path.open("rb") as file:
            for line in file:
                yield line

    async def open_lines() -> AsyncIterator[bytes]:
        return read_lines()

    with write_atomically(output) as out:
        async for part in batch_results.write_batch_results(open_lines, result_format):
            out.write(part)
