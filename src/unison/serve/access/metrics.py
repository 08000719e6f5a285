"""How is the server doing? Numbers for Prometheus, on a registry of each server's own."""

from collections.abc import Iterator

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unison.serve.access.account import Cost
from unison.serve.access.logs import Visit
from unison.serve.batching import Stats
from unison.serve.http.errors import documented
from unison.serve.service import Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_NOW = {
    "waiting": "Pieces of work that have not begun.",
    "running": "Pieces of work that have begun.",
    "rows": "Texts being written.",
    "memory": "Bytes of the memory budget in use.",
    "batch": "Rows of the last round.",
}
_SO_FAR = {
    "steps": "Rounds of evaluations.",
    "evaluations": "Rows evaluated.",
    "model_seconds": "Seconds spent in networks.",
    "step_seconds": "Seconds spent in strategies.",
    "busy_seconds": "Seconds in which there was work.",
    "tokens": "Tokens written.",
    "finished": "Pieces of work done.",
    "failed": "Pieces of work that failed.",
    "cancelled": "Pieces of work given up by who asked.",
    "preempted": "Interruptions by work of a higher priority.",
    "prefix_hits": "Prompt tokens that were remembered instead of read.",
    "prefix_misses": "Prompt tokens that were read.",
}


class EngineCollector(Collector):
    """Asks an engine how it is doing whenever somebody looks.

    Args:
        service: Has the engine.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Yield what the engine does now and has done, and the models' versions."""
        stats: Stats = self._service.engine.stats()
        for name, about in _NOW.items():
            yield GaugeMetricFamily(f"unison_engine_{name}", about, getattr(stats, name))
        for name, about in _SO_FAR.items():
            yield CounterMetricFamily(f"unison_engine_{name}", about, getattr(stats, name))
        alive = self._service.engine.alive
        yield GaugeMetricFamily("unison_engine_alive", "Whether it takes work.", float(alive))
        versions = GaugeMetricFamily(
            "unison_model_version", "How often a model was loaded.", labels=["model"]
        )
        for name in self._service.names:
            versions.add_metric([name], self._service.model(name).version)
        yield versions


class Meters:
    """Counts requests.

    Args:
        service: Whose engine is asked, too.

    Attributes:
        registry: Of this server alone.
    """

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(EngineCollector(service))
        by_route, by_model = ["method", "route", "status"], ["model"]
        registry = self.registry
        self._requests = Counter(
            "unison_requests", "Requests answered.", by_route, registry=registry
        )
        self._seconds = Histogram(
            "unison_request_seconds",
            "From a request to the end of its answer.",
            ["route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._waits = {
            "first_seconds": self._wait("first_event", "Until something was written."),
            "queue_seconds": self._wait("queue", "Until work began."),
            "run_seconds": self._wait("run", "From the beginning of work to its end."),
        }
        self._sums = {
            "prompt_tokens": Counter(
                "unison_prompt_tokens", "Given tokens.", by_model, registry=registry
            ),
            "completion_tokens": Counter(
                "unison_completion_tokens", "Written tokens.", by_model, registry=registry
            ),
            "nfe": Counter(
                "unison_evaluations", "Network evaluations of texts.", by_model, registry=registry
            ),
        }

    def count(self, visit: Visit, cost: Cost) -> None:
        """Count a request that has ended."""
        status = str(visit.status)
        self._requests.labels(visit.method, visit.route, status).inc()
        self._seconds.labels(visit.route, status).observe(visit.seconds)
        for name, histogram in self._waits.items():
            seconds = getattr(cost, name)
            if seconds is not None:
                histogram.labels(visit.route).observe(seconds)
        if cost.model is not None:
            for name, counter in self._sums.items():
                counter.labels(cost.model).inc(getattr(cost, name))

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)

    def _wait(self, name: str, about: str) -> Histogram:
        return Histogram(
            f"unison_{name}_seconds", about, ["route"], buckets=_SECONDS, registry=self.registry
        )


def router(meters: Meters) -> APIRouter:
    """Return the route of the metrics."""
    routes = APIRouter(tags=["operations"])

    @routes.get(
        "/metrics",
        operation_id="metrics",
        summary="Numbers for Prometheus",
        response_class=PlainTextResponse,
        responses=documented(401, 403, 405, 500),
    )
    def metrics() -> Response:
        """Numbers for Prometheus: engine, requests, latencies, tokens."""
        return Response(meters.text(), headers={"content-type": CONTENT_TYPE})

    return routes
