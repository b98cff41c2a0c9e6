"""`segserve automatic`: all objects of a picture, with no server running."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from segserve import logs
from segserve.errors import BadInput
from segserve.settings import Settings, load_settings
from segserve.wire.schemas import ResultFormat

FORMATS = {
    ".png": ResultFormat.PNG,
    ".tif": ResultFormat.TIFF,
    ".tiff": ResultFormat.TIFF,
    ".npy": ResultFormat.NPY,
    ".json": ResultFormat.COCO,
}


def automatic(
    image: Annotated[Path, typer.Argument(help="The picture.", exists=True, dir_okay=False)],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Where to write: a label map as .png, .tif or .npy, or COCO as .json."
        ),
    ],
    method: Annotated[str, typer.Option(help="How to find the objects: ais or amg.")] = "ais",
    format: Annotated[
        ResultFormat | None, typer.Option(help="What to write [default: by the output's suffix].")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="name=value, such as min_size=50; may be repeated.")
    ] = None,
    overlay: Annotated[Path | None, typer.Option(help="Also a coloured PNG, to look at.")] = None,
    model: Annotated[
        str | None, typer.Option(envvar="SEGSERVE_DEFAULT_MODEL", help="Which model [default: starter].")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(envvar="SEGSERVE_DATA_DIR", help="Where pulled models and the private cache live."),
    ] = None,
) -> None:
    """Find all objects of a picture, with no server running."""
    settings = load_settings(data_dir=data_dir, default_model=model)
    logs.configure(settings.log_format, "error")
    outputs = {output: format or by_suffix(output)}
    if overlay is not None:
        outputs[overlay] = ResultFormat.OVERLAY
    asked = {"method": method, "params": parameters(param or [])}
    count, seconds = asyncio.run(segment_file(settings, image, asked, outputs))
    typer.echo(f"{output}: {count} objects in {1000 * seconds:.0f} ms")


def by_suffix(output: Path) -> ResultFormat:
    if output.suffix.lower() not in FORMATS:
        raise BadInput(
            f"{output.name!r} does not say what to write.",
            field="--output",
            remedy=f"End it with one of {', '.join(FORMATS)}, or give --format.",
        )
    return FORMATS[output.suffix.lower()]


def parameters(given: list[str]) -> dict[str, Any]:
    """["min_size=50"] -> {"min_size": 50}."""
    found = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise BadInput(
                f"{text!r} is not name=value.", field="--param", remedy="Example: --param min_size=50."
            ) from None
    return found


async def segment_file(
    settings: Settings, image: Path, asked: dict[str, Any], outputs: dict[Path, ResultFormat]
) -> tuple[int, float]:
    """Write each output in its format -> (objects, seconds that finding them took)."""
    from segserve.app import Service
    from segserve.types import DEFAULT_TENANT, ReadOptions
    from segserve.wire import automatic
    from segserve.wire.ask import checked
    from segserve.wire.schemas_automatic import AutomaticIn

    request = checked(AutomaticIn, {**asked, "image_id": ""})
    service = Service(settings)
    await service.start(warm_up=False)
    try:
        with image.open("rb") as file:
            record = await service.library.add(DEFAULT_TENANT, file, ReadOptions())
        body = request.root.model_copy(update={"image_id": record.image_id})
        timings, begun = service.timings(), time.perf_counter()
        found = await automatic.find(service, AutomaticIn(body), timings)
        seconds = time.perf_counter() - begun
        for path, result_format in outputs.items():
            content, _ = await automatic.render(service, found, result_format, timings)
            path.write_bytes(content)
    finally:
        await service.stop()
    return len(found.objects), seconds
