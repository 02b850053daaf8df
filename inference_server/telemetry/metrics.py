"""Prometheus metrics of one server, in a registry of its own, and the HTTP endpoint that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import InfoMetricFamily
from prometheus_client.registry import Collector

import genrecall
from genrecall.errors import UserError
from inference_server.batching.scheduler import Lane
from inference_server.bundles.loaded import Slots

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
ENTRIES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counts what happens. Hears of batches and of calls that leave as an observer of the scheduler."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.calls = Counter("genrecall_calls", "Calls ended, by status.", ["method", "code"], registry=registry)
        self.in_flight = Gauge("genrecall_calls_in_flight", "Calls under way.", ["method"], registry=registry)
        self.pending = Gauge(
            "genrecall_entries_pending", "Entries waiting or running for calls under way.", ["lane"], registry=registry
        )
        self.stages = Histogram(
            "genrecall_stage_seconds",
            "Time of answered calls by stage: prepare, queue, compute, reply, total.",
            ["method", "stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.shed = Counter(
            "genrecall_calls_shed",
            "Calls left unanswered: refused (queue full), busy (method full), expired, cancelled, stopped.",
            ["reason"],
            registry=registry,
        )
        self.batch_entries = Histogram(
            "genrecall_batch_entries", "Entries of a batch.", ["lane"], buckets=ENTRIES, registry=registry
        )
        self.batch_seconds = Histogram(
            "genrecall_batch_seconds", "Computing time of a batch.", ["lane"], buckets=SECONDS, registry=registry
        )
        self.tokens = Counter(
            "genrecall_batch_tokens", "Tokens computed, by use: text or padding.", ["lane", "use"], registry=registry
        )
        self.reloads = Counter(
            "genrecall_reloads", "Changes of the bundles held: swapped or failed.", ["outcome"], registry=registry
        )

    def describe(self, slots: Callable[[], Slots]) -> None:
        """Show this process, and the bundles that it holds: asked at each scrape."""
        self.registry.register(_Held(slots))
        ProcessCollector(registry=self.registry)

    def batch(self, lane: Lane, count: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        self.batch_entries.labels(lane.name).observe(count)
        self.batch_seconds.labels(lane.name).observe(seconds)
        self.tokens.labels(lane.name, "text").inc(tokens)
        self.tokens.labels(lane.name, "padding").inc(padded_tokens - tokens)

    def left(self, reason: str) -> None:
        self.shed.labels(reason).inc()


class _Held(Collector):
    """What is served, as labels: read at the scrape, so that a swap shows whole."""

    def __init__(self, slots: Callable[[], Slots]) -> None:
        self._slots = slots

    def collect(self) -> Iterator[InfoMetricFamily]:
        server = InfoMetricFamily("genrecall_server", "This server.")
        server.add_metric([], {"version": genrecall.__version__})
        yield server
        labels = ["codebook", "model", "kind", "engine", "current"]
        bundles = InfoMetricFamily("genrecall_bundle", "Bundles held.", labels=labels)
        slots = self._slots()
        for name, engine in slots.engines.items():
            kind = engine.bundle.manifest["kind"]
            current = str(name == slots.current).lower()
            bundles.add_metric([name, engine.bundle.model, kind, engine.name, current], {})
        yield bundles


@contextmanager
def exposed(registry: CollectorRegistry, host: str, port: int | None) -> Iterator[int | None]:
    """Show the metrics over HTTP meanwhile; yields the port. Nothing where `port` is None.

    Raises UserError when the address cannot be had.
    """
    if port is None:
        yield None
        return
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise UserError(
            f"metrics cannot listen on {host}:{port} ({error}): choose another server.metrics_port or stop who uses it"
        ) from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
