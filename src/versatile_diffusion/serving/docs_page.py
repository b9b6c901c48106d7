"""The page that shows every route and field. It loads nothing from elsewhere, so that it works offline."""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

PAGE = "/docs"
FILES = "/docs/files"
"""Where the page's own files are, which are Swagger UI's."""


def add_docs_page(app: FastAPI) -> None:
    """Adds the page to an app that has none yet."""
    app.mount(FILES, StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static"), name="docs")

    @app.get(PAGE, include_in_schema=False)
    def page() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=app.openapi_url or "",
            title=f"{app.title}: the server's interface",
            swagger_js_url=f"{FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{FILES}/swagger-ui.css",
            swagger_favicon_url=f"{FILES}/favicon.png",
            swagger_ui_parameters={"validatorUrl": None},  # which is a page of others
        )
