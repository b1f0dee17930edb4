"""What Prometheus reads. Its labels are routes and kinds that the service knows, never what a request says."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(NamedTuple):
    """One service's."""

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    answers: Counter
    turned_away: Counter
    restarts: Gauge
    changes: Gauge
    version: Gauge
    model: Info


def made(queue: Callable[[], float], held: Callable[[], float]) -> Metrics:
    """Of a service with a queue of that length, which holds so many bytes of bodies."""
    registry = CollectorRegistry()
    Gauge("seamline_queue_length", "Requests that wait for a worker", registry=registry).set_function(queue)
    Gauge("seamline_held_bytes", "Bytes of bodies in memory", registry=registry).set_function(held)
    return Metrics(
        registry,
        Counter("seamline_requests", "Answered requests", ["route", "status"], registry=registry),
        Histogram("seamline_request_seconds", "From head to answer", ["route"], buckets=SECONDS, registry=registry),
        Counter("seamline_answers", "Pictures and images by what they were called", ["kind"], registry=registry),
        Counter("seamline_turned_away", "Connections that were ended", ["reason"], registry=registry),
        Gauge("seamline_worker_restarts", "Workers that ended and were replaced", registry=registry),
        Gauge("seamline_bundle_changes", "New bundles that were taken", registry=registry),
        Gauge("seamline_bundle_version", "Version of the bundle that serves", registry=registry),
        Info("seamline_model", "The model that serves", registry=registry),
    )


def begin(metrics: Metrics, kinds: Iterable[str], routes: Iterable[str]) -> None:
    """Have every series from the start, so that a rate has something to begin with."""
    for kind in kinds:
        metrics.answers.labels(kind)
    for route in routes:
        metrics.seconds.labels(route)


def shown(metrics: Metrics) -> bytes:
    """All of it, as Prometheus reads it."""
    return generate_latest(metrics.registry)
