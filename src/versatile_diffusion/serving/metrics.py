"""What the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from versatile_diffusion._moved import former_names
from versatile_diffusion.engine.engine import Observer
from versatile_diffusion.engine.jobs import Job
from versatile_diffusion.engine.requests import JobRequest

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
_METHODS = ("GET", "POST", "DELETE", "OPTIONS")
_OUTPUTS = (1, 2, 4, 8, 16, 32)


class Metrics(Observer):
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        of_a_job = ("model", "to")
        self._requests = Counter(
            "vd_http_requests", "Answers by route and status.", ("method", "route", "status"), registry=self.registry
        )
        self._jobs = Counter("vd_jobs", "Jobs by how they ended.", (*of_a_job, "status"), registry=self.registry)
        self._job_seconds = Histogram(
            "vd_job_seconds", "From the start to the end of a job.", of_a_job, registry=self.registry, buckets=_SECONDS
        )
        self._batch_seconds = Histogram(
            "vd_batch_seconds", "Of the computation of a batch.", of_a_job, registry=self.registry, buckets=_SECONDS
        )
        self._batch_outputs = Histogram(
            "vd_batch_outputs", "Outputs computed at once.", of_a_job, registry=self.registry, buckets=_OUTPUTS
        )
        self._waiting = Gauge("vd_jobs_waiting", "Jobs in the queue.", registry=self.registry)

    def watch_queue(self, waiting: Callable[[], int]) -> None:
        """Says how many jobs wait whenever that is asked for."""
        self._waiting.set_function(waiting)

    def answered(self, method: str, route: str, status: int) -> None:
        """Counts an answer to a request."""
        self._requests.labels(method, route, str(status)).inc()

    def computed(self, requests: Sequence[JobRequest], seconds: float) -> None:
        """See `Observer`."""
        labels = (requests[0].model, requests[0].to)
        self._batch_seconds.labels(*labels).observe(seconds)
        self._batch_outputs.labels(*labels).observe(sum(len(request.seeds) for request in requests))

    def finished(self, job: Job) -> None:
        """See `Observer`."""
        labels, state = (job.request.model, job.request.to), job.state
        self._jobs.labels(*labels, state.status.value).inc()
        if state.started is not None and state.finished is not None:
            self._job_seconds.labels(*labels).observe(state.finished - state.started)


class CountingMiddleware:
    """Counts answers by route, not by path, of which there may be any number. An ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._metrics.answered(method, route, message["status"])
            await send(message)

        await self._app(scope, receive, counted)


__getattr__ = former_names(
    __name__,
    {
        "Counted": "versatile_diffusion.serving.metrics:CountingMiddleware",
    },
)
