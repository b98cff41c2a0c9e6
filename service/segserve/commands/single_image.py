"""Shared by the commands on one image: the service's own parts in this process, with no server running."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from segserve.app import Service
from segserve.commands.scratch_data import use_scratch_data
from segserve.errors import BadInput
from segserve.settings import Settings
from segserve.types import DEFAULT_TENANT, Normalise, ReadOptions, Stain

Image = Annotated[Path, typer.Argument(help="The image file.", exists=True, dir_okay=False)]
Read = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        help="name=value of how the image is read: page, channels, normalise, stain or invert, as in"
        " stain=haematoxylin. Can be repeated.",
    ),
]
Page = Annotated[
    int | None, typer.Option("--page", min=0, help="Page of a stack, from 0 [default: the first].")
]

# The fields of ReadOptions, from their text.
READ_FIELDS: dict[str, Callable[[str], Any]] = {
    "page": int,
    "channels": lambda text: tuple(int(number) for number in text.split(",")),
    "normalise": Normalise,
    "stain": Stain,
    "invert": {"true": True, "false": False}.__getitem__,
}


def parse_read_options(texts: list[str], page: int | None = None) -> ReadOptions:
    """Parse name=value pairs, such as ["stain=eosin", "invert=true"]. page: None is the first. Raises BadInput."""
    values: dict[str, Any] = {} if page is None else {"page": page}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            values[name] = READ_FIELDS[name](value)
        except (KeyError, ValueError):
            raise BadInput(
                f"{text!r} is no way to read an image.",
                field="--read",
                remedy=f"Names are {', '.join(READ_FIELDS)}. Examples: normalise=minmax, stain={Stain.HAEMATOXYLIN},"
                " invert=true, channels=2,1,0.",
            ) from None
    return ReadOptions(**values)


def warn_of_pages(image: Path, page: int, pages: int) -> None:
    """Say on stderr that a file has more pages, where the first one was taken, as is the default."""
    if pages > 1 and page == 0:
        typer.echo(
            f"{image}: the first of {pages} pages, and only it is read. --page 1 takes the second; for all use segserve"
            " volume or segserve video.",
            err=True,
        )


@asynccontextmanager
async def open_image(
    settings: Settings, image: Path, options: ReadOptions
) -> AsyncIterator[tuple[Service, str]]:
    """Start the service's parts and store the image in them, for the time of the block. Yields (service, image_id).

    Raises BadInput where the file cannot be read as an image.
    """
    with use_scratch_data(settings) as scratch:
        service = Service(scratch)
        try:
            await service.start(warm_up=False)
            with image.open("rb") as file:
                record = await service.images.add(DEFAULT_TENANT, file, options)
            warn_of_pages(image, record.page, record.pages)
            yield service, record.image_id
        finally:
            await service.stop()
