"""The page that shows every route and field. It loads nothing from elsewhere, so that it works offline."""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, HTTPException
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

PAGE = "/docs"
FILES = "/docs/files"
"""Where the page's own files are, which are Swagger UI's."""
_NAMES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")


def add_docs_page(app: FastAPI) -> None:
    """Adds the page to an app that has none yet."""
    folder = Path(fastapi_offline.__file__).parent / "static"
    script, style, icon = (f"{FILES}/{name}" for name in _NAMES)

    @app.get(f"{FILES}/{{name}}", include_in_schema=False)
    def file(name: str) -> FileResponse:
        if name not in _NAMES:
            raise HTTPException(404)
        return FileResponse(folder / name)

    @app.get(PAGE, include_in_schema=False)
    def page() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=app.openapi_url or "",
            title=f"{app.title}: the server's interface",
            swagger_js_url=script,
            swagger_css_url=style,
            swagger_favicon_url=icon,
            swagger_ui_parameters={"validatorUrl": None},  # which is a page of others
        )
