"""The two pages for browsers: / to click on a picture, /docs with the documentation of the routes."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

from segserve.wire.http import browser_headers

PAGE = Path(__file__).parent.parent / "page.html"


def add_routes(api: FastAPI) -> None:
    """Read both pages once: their policies hold the hashes of their contents."""
    page = PAGE.read_text("utf-8")
    docs = bytes(get_swagger_ui_html(openapi_url="/openapi.json", title="segserve").body).decode()
    page_policy, docs_policy = browser_headers.page_policy(page), browser_headers.docs_policy(docs)

    @api.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": page_policy})

    @api.get("/docs", include_in_schema=False)
    async def show_docs() -> Response:
        return HTMLResponse(docs, headers={"Content-Security-Policy": docs_policy})
