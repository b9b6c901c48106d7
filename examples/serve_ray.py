"""The bundled model behind Ray Serve, which spreads requests over replicas and gathers them into batches.

    pip install 'versatile-diffusion[serve]' 'ray[serve]'
    python examples/serve_ray.py --workers 2
    curl -s http://127.0.0.1:8000/ -H 'Content-Type: application/json' \\
        -d '{"to": "image", "contexts": [{"modality": "text", "data": "a red lighthouse by the sea"}]}'

On a cluster that runs already, name it in RAY_ADDRESS. Or: serve run examples.serve_ray:app
"""

from __future__ import annotations

import os
from typing import Any

import ray
import typer
from ray import serve
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse

from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.workers import Source, open_models
from versatile_diffusion.serving.plain import answers, read


@serve.deployment(num_replicas=2, max_ongoing_requests=16, ray_actor_options={"num_cpus": 1})
class Generate:
    """`POST /` with the body of `POST /v1/generate`. For GPUs, add num_gpus to ray_actor_options."""

    def __init__(self, model: str = "postcards", dtype: str = "auto") -> None:
        self.source = Source.parse(model)
        self.pipe = open_models([self.source], dtype=dtype)[self.source.name]

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.05)
    async def computed(self, requests: list[JobRequest]) -> list[dict[str, Any]]:
        """Answers to requests of any kinds: those of one kind are computed together."""
        return answers(self.pipe, requests)

    async def __call__(self, http: HTTPRequest) -> JSONResponse:
        """An answer, or what is wrong with the request."""
        try:
            request = read(self.pipe, await http.json(), self.source.name)
        except ValueError as error:
            return JSONResponse({"error": {"message": str(error), "type": "invalid"}}, 422)
        return JSONResponse(await self.computed(request))


app = Generate.bind()


def main(model: str = "postcards", workers: int = 2, port: int = 8000, dtype: str = "auto") -> None:
    """Serves a model on this machine, or on the cluster that RAY_ADDRESS names."""
    ray.init(num_cpus=None if "RAY_ADDRESS" in os.environ else workers, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Generate.options(num_replicas=workers).bind(model, dtype), blocking=True)


if __name__ == "__main__":
    typer.run(main)
