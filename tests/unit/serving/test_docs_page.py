"""The page that shows the interface, with all that it loads, comes from the server itself."""

import re

from fastapi.testclient import TestClient

from tests.unit.serving.running import Gate
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.keys import Keys


def test_the_page_loads_nothing_from_elsewhere() -> None:
    app = build_app(Engine(Gate()), keys=Keys(["a-key-for-the-tests"]))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        page = client.get("/docs")
        assert page.status_code == 200 and "//" not in re.sub(r"<!--.*?-->", "", page.text)
        loaded = re.findall(r"""(?:src|href)="([^"]+)"|url: ['"]([^'"]+)""", page.text)
        addresses = {first or second for first, second in loaded}
        assert "/openapi.json" in addresses and len(addresses) == 4
        for address in addresses:
            assert client.get(address).status_code == 200, address
        style = client.get("/docs/files/swagger-ui.css").text
        assert not re.findall(r"""(?:url\(|@import )['"]?https?:""", style)
        for hidden in ("/docs/files/../core.py", "/docs/files/%2e%2e/core.py", "/docs/other"):
            assert client.get(hidden).status_code in (401, 404)
