"""What the commands on one picture share: the very parts that serve, without the server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from segserve import logs
from segserve.app import Service
from segserve.errors import BadInput
from segserve.settings import Settings, load_settings
from segserve.types import DEFAULT_TENANT, ReadOptions

Image = Annotated[Path, typer.Argument(help="The picture.", exists=True, dir_okay=False)]
DataDir = Annotated[
    Path | None,
    typer.Option(envvar="SEGSERVE_DATA_DIR", help="Where images, pulled models and the private cache live."),
]
Model = Annotated[
    str | None, typer.Option(envvar="SEGSERVE_DEFAULT_MODEL", help="Which model [default: starter].")
]
FORMATS = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".npy": "npy"}


def format_of(output: Path, given: str | None, json: str) -> str:
    """given, or what the output's suffix stands for. json: what .json stands for. Raises BadInput."""
    by_suffix = {**FORMATS, ".json": json}
    if given is None and output.suffix.lower() not in by_suffix:
        raise BadInput(
            f"{output.name!r} does not say what to write.",
            field="--output",
            remedy=f"End it with one of {', '.join(by_suffix)}, or give --format.",
        )
    return given or by_suffix[output.suffix.lower()]


def parameters(given: list[str], option: str = "--param") -> dict[str, Any]:
    """["min_size=50"] -> {"min_size": 50}. Raises BadInput naming the option."""
    found = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise BadInput(
                f"{text!r} is not name=value.", field=option, remedy=f"Example: {option} min_size=50."
            ) from None
    return found


def quiet_settings(**given: Any) -> Settings:
    settings = load_settings(**given)
    logs.configure_logging(settings.log_format, "error")
    return settings


@asynccontextmanager
async def holding(settings: Settings, image: Path) -> AsyncIterator[tuple[Service, str]]:
    """(a service, the id of the picture in it). Raises BadInput where it cannot be read as one."""
    service = Service(settings)
    await service.start(warm_up=False)
    try:
        with image.open("rb") as file:
            record = await service.library.add(DEFAULT_TENANT, file, ReadOptions())
        yield service, record.image_id
    finally:
        await service.stop()
