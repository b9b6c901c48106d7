"""The bundled model behind LitServe, which spreads requests over workers and gathers them into batches.

    pip install 'versatile-diffusion[serve]' litserve
    python examples/serve_litserve.py --workers 2
    curl -s http://127.0.0.1:8000/predict -H 'Content-Type: application/json' \\
        -d '{"to": "image", "contexts": [{"modality": "text", "data": "a red lighthouse by the sea"}]}'
"""

from typing import Any

import litserve
import litserve.server
import typer
from fastapi import HTTPException

from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.workers import Source, open_models
from versatile_diffusion.serving.plain import answers, read


class Generate(litserve.LitAPI):
    """`POST /predict` with the body of `POST /v1/generate`."""

    def __init__(self, model: str, dtype: str, **options: Any) -> None:
        super().__init__(**options)
        self.source, self.dtype = Source.parse(model), dtype

    def setup(self, device: str) -> None:
        """Opens the model, once in each worker."""
        self.pipe = open_models([self.source], device, self.dtype)[self.source.name]

    def decode_request(self, request: dict[str, Any], **_: Any) -> JobRequest:
        """The request, or an answer 422."""
        try:
            return read(self.pipe, request, self.source.name)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error

    def batch(self, inputs: list[JobRequest]) -> list[JobRequest]:
        """Requests of any kinds make a batch: those of one kind are computed together."""
        return list(inputs)

    def predict(self, x: list[JobRequest], **_: Any) -> list[dict[str, Any]]:
        """The answers."""
        return answers(self.pipe, x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One answer for each request."""
        return output


def main(
    model: str = "postcards",
    workers: int = 2,
    port: int = 8000,
    batch: int = 8,
    accelerator: str = "auto",
    dtype: str = "auto",
) -> None:
    """Serves a model on this machine."""
    litserve.server._MCP_AVAILABLE = False  # beside mcp 2, which it does not know, LitServe 0.2 ends
    api = Generate(model, dtype, max_batch_size=batch, batch_timeout=0.05)
    server = litserve.LitServer(api, accelerator=accelerator, workers_per_device=workers, timeout=120)
    server.run(host="127.0.0.1", port=port, generate_client_file=False)


if __name__ == "__main__":
    typer.run(main)
