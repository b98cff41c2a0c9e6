"""The two pages for browsers: / to click on a picture, /docs with the documentation of the routes (Swagger UI); and the
OpenAPI document.

Both pages work offline: Swagger UI comes from the package `fastapi-swagger` and not from a CDN.
"""

import asyncio
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from segserve.wire.http import browser_headers

PAGE = Path(__file__).parent.parent / "page.html"
SWAGGER_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
DAY_S = 86400
OPENAPI_PATH = "/openapi.json"


def add_routes(api: FastAPI) -> None:
    """Read both pages once: their policies hold the hashes of their contents."""
    page = PAGE.read_text("utf-8")
    answer = get_swagger_ui_html(
        openapi_url=OPENAPI_PATH,
        title="segserve",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon-32x32.png",
    )
    docs = bytes(answer.body).decode()
    page_policy, docs_policy = browser_headers.page_policy(page), browser_headers.docs_policy(docs)

    @api.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": page_policy})

    @api.get("/docs", include_in_schema=False)
    async def show_docs() -> Response:
        return HTMLResponse(docs, headers={"Content-Security-Policy": docs_policy})

    @api.get(OPENAPI_PATH, include_in_schema=False)
    async def send_openapi() -> Response:
        # It is built at the first call, which takes 0.2 s.
        return JSONResponse(await asyncio.to_thread(api.openapi))

    for name, media_type in SWAGGER_FILES.items():
        add_swagger_file(api, name, media_type)


def add_swagger_file(api: FastAPI, name: str, media_type: str) -> None:
    path = Path(str(files("fastapi_swagger") / "resources" / name))

    @api.get(f"/docs/{name}", include_in_schema=False)
    async def send_file() -> Response:
        return FileResponse(path, media_type=media_type, headers={"Cache-Control": f"max-age={DAY_S}"})
