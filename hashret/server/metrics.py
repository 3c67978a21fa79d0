"""Prometheus metrics of one application, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)


class Metrics:
    """Counts and times; ``text`` is what Prometheus reads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "hashret_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "hashret_request_seconds", "Seconds to the answer.", ("route",), buckets=_SECONDS, registry=self._registry
        )
        self._batch = Histogram(
            "hashret_encode_batch_items", "Items of an encoder call.", buckets=(1, 2, 4, 8, 16, 32),
            registry=self._registry,
        )  # fmt: skip
        self._encode = Histogram(
            "hashret_encode_seconds", "Seconds of an encoder call.", buckets=_SECONDS, registry=self._registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def batched(self, items: int, seconds: float) -> None:
        """Count an encoder call."""
        self._batch.observe(items)
        self._encode.observe(seconds)

    def watch(self, waiting: Callable[[], dict[str, int]]) -> None:
        """Report how many requests wait, by the kind of thread."""
        self._registry.register(_Queues(waiting))

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Queues:
    def __init__(self, waiting: Callable[[], dict[str, int]]) -> None:
        self._waiting = waiting

    def collect(self) -> Iterable[Any]:
        family = GaugeMetricFamily("hashret_waiting", "Requests that wait for or are with a thread.", labels=("kind",))
        for kind, count in self._waiting().items():
            family.add_metric((kind,), count)
        return (family,)
