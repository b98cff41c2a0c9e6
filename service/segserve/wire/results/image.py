"""A stored image as JSON."""

from typing import Any

from segserve.images import deep_zoom
from segserve.types import ImageRecord


def image_to_json(record: ImageRecord) -> dict[str, Any]:
    """Return what REST and gRPC say of an image."""
    return {
        "image_id": record.image_id,
        "width": record.size.width,
        "height": record.size.height,
        "page": record.page,
        "pages": record.pages,
        "hints": list_page_hints(record),
    }


def stored_image_to_json(record: ImageRecord) -> dict[str, Any]:
    """Return the JSON of `ImageOut`."""
    tiles = {"size": deep_zoom.TILE_SIDE_PX, "levels": deep_zoom.count_levels(record.size)}
    return {**image_to_json(record), "tiles": tiles}


def list_page_hints(record: ImageRecord) -> list[str]:
    """Return what a client should know that took the first page of several, as the default is."""
    if record.pages == 1 or record.page:
        return []
    return [
        f"This is page 1 of {record.pages}, and only it is read. Upload the file with page=1 to {record.pages - 1} for"
        " another one. For all of them send it to POST /v1/files, and run a job of kind volume or video."
    ]
