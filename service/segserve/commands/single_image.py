"""Shared by the commands on one image: the service's own parts in this process, with no server running."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from segserve.app import Service
from segserve.settings import Settings
from segserve.types import DEFAULT_TENANT, ReadOptions

Image = Annotated[Path, typer.Argument(help="The image file.", exists=True, dir_okay=False)]


@asynccontextmanager
async def open_image(settings: Settings, image: Path) -> AsyncIterator[tuple[Service, str]]:
    """Start the service's parts and store the image in them. Yields (service, image_id).

    Raises BadInput where the file cannot be read as an image.
    """
    service = Service(settings)
    await service.start(warm_up=False)
    try:
        with image.open("rb") as file:
            record = await service.images.add(DEFAULT_TENANT, file, ReadOptions())
        yield service, record.image_id
    finally:
        await service.stop()
