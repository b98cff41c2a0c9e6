"""Answers that are pictures: their format by the header Accept, and what caches may do with them."""

from hashlib import sha256
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from segserve.images.encode_picture import PictureFormat
from segserve.wire.rest.responses import BINARY

# The OpenAPI content of a picture.
PICTURE_CONTENT: dict[str, Any] = {"image/jpeg": BINARY, "image/png": BINARY}
# The longest side of a picture that is reduced: it is for screens.
MAX_PICTURE_PX = 4096
# The picture behind a URL never changes, because an id names its content. But a deleted one stays in the caches of
# browsers for so long. Afterwards they ask again, and get 304 or 404.
PICTURE_AGE_S = 300
# Part of every tag: changes with how pictures are rendered.
RENDERING = 1


def choose_picture_format(request: Request) -> PictureFormat:
    """Return png where the header Accept names it and does not name JPEG before it."""
    accept = request.headers.get("accept", "")
    png, jpeg = accept.find("image/png"), accept.find("image/jpeg")
    return "png" if png >= 0 and (jpeg < 0 or png < jpeg) else "jpeg"


def picture_tag(*parts: object) -> str:
    """Return the ETag of the picture that `parts` name."""
    digest = sha256(repr((RENDERING, *parts)).encode()).hexdigest()
    return f'"{digest[:32]}"'


def picture_headers(tag: str) -> dict[str, str]:
    return {
        "ETag": tag,
        # Of who asks too: the next user of a browser may be of another tenant.
        "Vary": "Accept, Authorization, Cookie, X-API-Key",
        "Cache-Control": f"private, max-age={PICTURE_AGE_S}, immutable",
    }


def unchanged_response(request: Request, tag: str) -> Response | None:
    """Return 304 where the client has the picture already (RFC 9110, 13.1.2)."""
    known = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers=picture_headers(tag)) if tag in known or "*" in known else None
