"""`segserve batch`: one operation on many pictures, here or by a server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Annotated, Any, BinaryIO

import orjson
import typer

from segserve.commands.server_client import Remote, Server, bar, format_of, serving, whole
from segserve.commands.single_image import DataDir, Model, parameters
from segserve.errors import BadInput
from segserve.files.zip_archive import SUFFIXES
from segserve.jobs.engine.job import Kind
from segserve.wire.results import batch as batch_results
from segserve.wire.results.batch import Line
from segserve.wire.results.job_formats import JobFormat


def batch(
    images: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.", exists=True)],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Where to write: .ndjson, COCO as .json, label maps as .zip."),
    ],
    operation: Annotated[
        str, typer.Option(help="What to do to each: automatic, semantic, instances or embed.")
    ] = "automatic",
    param: Annotated[
        list[str] | None,
        typer.Option(help="name=value of the operation, such as min_size=50 or method=amg; may be repeated."),
    ] = None,
    server: Server = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Do one thing to many pictures. What cannot be read is listed, and the rest is done."""
    result_format = format_of(output, Kind.BATCH)
    options = parameters(param or [])
    if operation == "automatic":
        options = {"method": options.pop("method", "ais"), "params": options}
    asked = {"operation": operation, "options": options}
    files = pictures(images)
    with TemporaryDirectory() as folder:
        kept = Path(folder) / "lines.ndjson"
        with serving(server, data_dir) as remote, kept.open("wb") as out:
            failed = work(remote, files, model, asked, out)
        asyncio.run(write(kept, result_format, output))
    for name, reason in failed:
        typer.secho(f"{name}: {reason}", fg="red", err=True)
    typer.echo(f"{output}: {len(files) - len(failed)} of {len(files)} pictures")
    if failed:
        raise typer.Exit(1)


def pictures(given: list[Path]) -> dict[str, Path]:
    """Files as they are named, and what folders hold that looks like a picture, by what to call them. Raises
    BadInput."""
    found: dict[str, Path] = {}
    for each in given:
        inside = (
            sorted(p for p in each.rglob("*") if p.suffix.lower() in SUFFIXES) if each.is_dir() else [each]
        )
        for path in inside:
            name = str(path.relative_to(each if each.is_dir() else each.parent))
            found[name if name not in found else str(path)] = path
    if not found:
        raise BadInput(
            "There are no pictures.", field="IMAGES", remedy=f"They end with {', '.join(SUFFIXES)}."
        )
    return found


def work(
    remote: Remote, files: dict[str, Path], model: str | None, asked: dict[str, Any], out: BinaryIO
) -> list[tuple[str, str]]:
    """Write the results' lines down -> (name, reason) of those that are errors. Raises BadInput, Unavailable."""
    index_of = {name: index for index, name in enumerate(files)}
    image_ids, failed = dict[str, str](), list[tuple[str, str]]()

    def keep(line: Line) -> None:
        if "error" in line:
            failed.append((line["name"], line["error"]["detail"]))
        out.write(orjson.dumps({**line, "index": index_of[line["name"]]}) + b"\n")

    with bar("sending pictures", len(files)) as told:
        for name, path in files.items():
            answer = remote.upload_image(path)
            if "image_id" in answer:
                image_ids[name] = answer["image_id"]
            else:
                keep({"name": name, "image_id": "", "error": answer})
            told(index_of[name] + 1, len(files))
    if not image_ids:
        return failed
    body = {
        "kind": "batch",
        "model": model,
        "input": {"image_ids": list(image_ids.values()), "names": list(image_ids)},
        "params": asked,
    }
    with bar("pictures", len(image_ids)) as told:
        job = remote.work(body, told)
    with TemporaryFile() as lines:
        remote.results(job, JobFormat.NDJSON, lines)
        lines.seek(0)
        for line in lines:
            keep(orjson.loads(line))
    return failed


async def write(kept: Path, result_format: JobFormat, output: Path) -> None:
    async def read() -> AsyncIterator[bytes]:
        async def lines() -> AsyncIterator[bytes]:
            with kept.open("rb") as file:
                for line in file:
                    yield line

        return lines()

    with whole(output) as out:
        async for part in batch_results.write_batch_results(read, result_format):
            out.write(part)
