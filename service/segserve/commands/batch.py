"""`segserve batch`: one operation on many pictures, here or by a server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segserve.app import Service
from segserve.commands.local import DataDir, Model, parameters, quiet_settings
from segserve.errors import BadInput, SegserveError, Unavailable
from segserve.files.archive import SUFFIXES
from segserve.jobs.batch import Item, patiently
from segserve.jobs.job import JobError, State
from segserve.jobs.work import Stop
from segserve.settings import Settings
from segserve.types import DEFAULT_TENANT, ReadOptions
from segserve.wire import ask, batch_results, jobs
from segserve.wire.batch_results import Line
from segserve.wire.job_formats import JobFormat
from segserve.wire.operations import operations
from segserve.wire.schemas_jobs import JobIn

BY_OUTPUT = {".ndjson": JobFormat.NDJSON, ".json": JobFormat.COCO, ".zip": JobFormat.PNG}
LOOK_S = 0.5
TIMEOUT_S = 120.0


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
    server: Annotated[
        str | None,
        typer.Option(
            help="Address of a running segserve, such as http://127.0.0.1:8000 [default: work here]."
        ),
    ] = None,
    model: Model = None,
    data_dir: DataDir = None,
) -> None:
    """Do one thing to many pictures. What cannot be read is listed, and the rest is done."""
    result_format = BY_OUTPUT.get(output.suffix.lower())
    if result_format is None:
        raise BadInput(
            f"{output.name!r} does not say what to write.",
            field="--output",
            remedy=f"End it with one of {', '.join(BY_OUTPUT)}.",
        )
    options = parameters(param or [])
    if operation == "automatic":
        options = {"method": options.pop("method", "ais"), "params": options}
    asked = {"operation": operation, "options": options}
    files = pictures(images)
    with TemporaryDirectory() as folder:
        kept = Path(folder) / "lines.ndjson"
        if server is None:
            lines = here(quiet_settings(data_dir=data_dir), files, model, asked)
        else:
            lines = there(server, files, model, asked)
        failed = asyncio.run(keep(lines, kept, len(files)))
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


async def keep(lines: AsyncIterator[Line | None], path: Path, total: int) -> list[tuple[str, str]]:
    """Write the lines down as they come -> (name, reason) of those that are errors. None: one more is done, which
    comes later."""
    failed = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress, path.open("wb") as out:
        task = progress.add_task("pictures", total=total)
        async for line in lines:
            if line is None:
                progress.advance(task)
                continue
            if "error" in line:
                failed.append((line["name"], line["error"]["detail"]))
            out.write(orjson.dumps(line) + b"\n")
    return failed


async def write(kept: Path, result_format: JobFormat, output: Path) -> None:
    async def read() -> AsyncIterator[bytes]:
        async def lines() -> AsyncIterator[bytes]:
            with kept.open("rb") as file:
                for line in file:
                    yield line

        return lines()

    with output.open("wb") as out:
        async for part in batch_results.written(read, result_format):
            out.write(part)


def job_in(
    image_ids: list[str], names: list[str], model: str | None, asked: dict[str, Any]
) -> dict[str, Any]:
    """The body of POST /v1/jobs."""
    return {
        "kind": "batch",
        "model": model,
        "input": {"image_ids": image_ids, "names": names},
        "params": asked,
    }


async def here(
    settings: Settings, files: dict[str, Path], model: str | None, asked: dict[str, Any]
) -> AsyncIterator[Line | None]:
    """A few at once, and in order."""
    service = Service(settings)
    await service.start(warm_up=False)
    try:
        checked = ask.checked(JobIn, job_in(["?"], [], model, asked))
        request = await jobs.prepared(service, checked)
        operation = operations(service)[request.operation]

        async def one(index: int, name: str) -> Line:
            line: Line = {"index": index, "image_id": "", "name": name}
            try:
                with files[name].open("rb") as file:
                    record = await service.library.add(DEFAULT_TENANT, file, ReadOptions())
                line["image_id"] = record.image_id
                item = Item(DEFAULT_TENANT, record.image_id, request.model, request.options, [])
                return {**line, **await patiently(operation, item, Stop())}
            except Unavailable:
                raise
            except SegserveError as error:
                return {**line, "error": JobError.of(error).problem()}

        at_once = settings.batch_at_once
        names = list(enumerate(files))
        for first in range(0, len(names), at_once):
            group = names[first : first + at_once]
            for line in await asyncio.gather(*(one(index, name) for index, name in group)):
                yield line
                yield None
    finally:
        await service.stop()


async def there(
    server: str, files: dict[str, Path], model: str | None, asked: dict[str, Any]
) -> AsyncIterator[Line | None]:
    """Upload them, have a job do it, and follow it. Raises BadInput, Unavailable."""
    index_of = {name: index for index, name in enumerate(files)}
    async with httpx.AsyncClient(base_url=server, timeout=TIMEOUT_S) as client:
        image_ids, names = list[str](), list[str]()
        for name, path in files.items():
            answer = await sent(client, "POST", "/v1/images", files={"file": path.read_bytes()})
            if answer.is_success:
                image_ids.append(answer.json()["image_id"])
                names.append(name)
                continue
            yield {"index": index_of[name], "image_id": "", "name": name, "error": answer.json()}
            yield None
        if not image_ids:
            return
        body = job_in(image_ids, names, model, asked)
        job = taken(await sent(client, "POST", "/v1/jobs", json=body)).json()
        done = 0
        while job["state"] in (State.QUEUED, State.RUNNING):
            await asyncio.sleep(LOOK_S)
            job = taken(await sent(client, "GET", f"/v1/jobs/{job['job_id']}")).json()
            for _ in range(done, job["progress"]["done"]):
                yield None
            done = job["progress"]["done"]
        if job["state"] != State.SUCCEEDED:
            reason = (job["error"] or {}).get("detail", "")
            raise Unavailable(
                f"The job ended as {job['state']}. {reason}", remedy="Look at the server's log."
            )
        for line in taken(await sent(client, "GET", f"/v1/jobs/{job['job_id']}/results")).content.split(
            b"\n"
        )[:-1]:
            found = orjson.loads(line)
            yield {**found, "index": index_of[found["name"]]}


async def sent(client: httpx.AsyncClient, method: str, path: str, **content: Any) -> httpx.Response:
    try:
        return await client.request(method, path, **content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"{client.base_url} cannot be reached: {error}.",
            remedy="Is that the address of a running segserve?",
        ) from None


def taken(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        told = answer.json()
        raise BadInput(told["detail"], field=told.get("field"), remedy=told.get("remedy", ""))
    return answer
