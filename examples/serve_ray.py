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
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse

from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.workers import Source, open_models
from versatile_diffusion.serving.plain import answers, read

TRIES = 3
"""Of a request, if replicas die that compute it."""
Answer = tuple[int, dict[str, Any]]
"""A status of HTTP, and what is said with it."""


@serve.deployment(num_replicas=2, max_ongoing_requests=16, ray_actor_options={"num_cpus": 1})
class Generate:
    """Computes bodies of `POST /v1/generate`. For GPUs, add num_gpus to ray_actor_options."""

    def __init__(self, model: str = "postcards", dtype: str = "auto") -> None:
        self.source = Source.parse(model)
        self.pipe = open_models([self.source], dtype=dtype)[self.source.name]

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.05)
    async def computed(self, requests: list[JobRequest]) -> list[dict[str, Any]]:
        """Answers to requests of any kinds: those of one kind are computed together."""
        return answers(self.pipe, requests)

    async def __call__(self, body: object) -> Answer:
        """An answer, or what is wrong with the request."""
        try:
            request = read(self.pipe, body, self.source.name)
        except ValueError as error:
            return 422, {"error": {"message": str(error), "type": "invalid"}}
        return 200, await self.computed(request)


@serve.deployment(
    max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}
)
class Front:
    """`POST /`: gives requests to the replicas, wherever they are, and again if one dies: seeds make it the same.

    It runs on the head node, without which there is no cluster.
    """

    def __init__(self, replicas: DeploymentHandle) -> None:
        self.replicas = replicas

    async def __call__(self, http: HTTPRequest) -> JSONResponse:
        """The answer of a replica."""
        try:
            body = await http.json()
        except ValueError:
            return JSONResponse({"error": {"message": "The body is no JSON.", "type": "invalid"}}, 422)
        for _ in range(TRIES):
            try:
                status, answer = await self.replicas.remote(body)
                return JSONResponse(answer, status)
            except RayActorError:  # a request that kills whoever computes it must not kill all of them
                continue
        return JSONResponse({"error": {"message": f"{TRIES} replicas died of it.", "type": "failed"}}, 500)


app = Front.bind(Generate.bind())


def main(model: str = "postcards", workers: int = 2, port: int = 8000, dtype: str = "auto") -> None:
    """Serves a model on this machine, or on the cluster that RAY_ADDRESS names."""
    ray.init(num_cpus=None if "RAY_ADDRESS" in os.environ else workers, include_dashboard=False)
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    serve.run(Front.bind(Generate.options(num_replicas=workers).bind(model, dtype)), blocking=True)


if __name__ == "__main__":
    typer.run(main)
