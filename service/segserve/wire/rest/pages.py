"""The two pages for browsers: / to label pictures, /docs with the documentation of the routes (Swagger UI); and the
OpenAPI document. `page_files.py` has the files of the first.

Both pages work offline: Swagger UI comes from the package `fastapi-swagger` and not from a CDN.
"""

import asyncio
from functools import cache
from importlib.resources import files
from pathlib import Path

import orjson
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, Response

from segserve.wire.http import browser_headers
from segserve.wire.rest.page_files import PageFiles, find_clients_folder

SWAGGER_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
DAY_S = 86400
OPENAPI_PATH = "/openapi.json"


def add_routes(api: FastAPI) -> None:
    """Read both pages once: the policy of /docs holds the hash of its content, the address of a file that of all."""
    page_files = PageFiles(find_clients_folder())
    answer = get_swagger_ui_html(
        openapi_url=OPENAPI_PATH,
        title="segserve",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon-32x32.png",
    )
    docs = bytes(answer.body).decode()
    building = asyncio.Lock()
    docs_policy = browser_headers.docs_policy(docs)

    @cache
    def write_openapi() -> bytes:
        return orjson.dumps(api.openapi())

    async def read_openapi() -> bytes:
        """Return the document, which is built once, at the first call: that takes 0.2 s."""
        async with building:
            return await asyncio.to_thread(write_openapi)

    @api.get("/", include_in_schema=False)
    async def show_page(request: Request) -> Response:
        return await page_files.send_index(request, browser_headers.PAGE_POLICY)

    @api.get("/clients/{digest}/{path:path}", include_in_schema=False)
    async def send_page_file(digest: str, path: str, request: Request) -> Response:
        return await page_files.send(digest, path, request)

    @api.get("/docs", include_in_schema=False)
    async def show_docs() -> Response:
        return HTMLResponse(docs, headers={"Content-Security-Policy": docs_policy})

    @api.get(OPENAPI_PATH, include_in_schema=False)
    async def send_openapi() -> Response:
        return Response(await read_openapi(), media_type="application/json")

    for name, media_type in SWAGGER_FILES.items():
        add_swagger_file(api, name, media_type)


def add_swagger_file(api: FastAPI, name: str, media_type: str) -> None:
    path = Path(str(files("fastapi_swagger") / "resources" / name))

    @api.get(f"/docs/{name}", include_in_schema=False)
    async def send_file() -> Response:
        return FileResponse(path, media_type=media_type, headers={"Cache-Control": f"max-age={DAY_S}"})
