"""Prometheus metrics of one server, in a registry of its own, and their HTTP endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import InfoMetricFamily
from prometheus_client.registry import Collector

import genrecall
from genrecall.errors import UserError
from inference_server.batching.scheduler import Workload
from inference_server.bundles.loaded import LoadedBundles

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
ENTRIES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """All metrics. An observer of the scheduler, for batches and for calls dropped."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.calls = Counter("genrecall_calls", "Calls ended, by status.", ["method", "code"], registry=registry)
        self.in_flight = Gauge("genrecall_calls_in_flight", "Calls in flight.", ["method"], registry=registry)
        self.pending = Gauge(
            "genrecall_entries_pending",
            "Entries waiting or running for calls in flight.",
            ["workload"],
            registry=registry,
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
            "Calls left unanswered: refused (queue full), late (deadline), busy (method), expired, cancelled, stopped.",
            ["reason"],
            registry=registry,
        )
        self.batch_entries = Histogram(
            "genrecall_batch_entries", "Entries of a batch.", ["workload"], buckets=ENTRIES, registry=registry
        )
        self.batch_seconds = Histogram(
            "genrecall_batch_seconds", "Computing time of a batch.", ["workload"], buckets=SECONDS, registry=registry
        )
        self.tokens = Counter(
            "genrecall_batch_tokens",
            "Tokens computed, by use: text or padding.",
            ["workload", "use"],
            registry=registry,
        )
        self.reloads = Counter(
            "genrecall_reloads", "Reloads of bundles: swapped or failed.", ["outcome"], registry=registry
        )

    def register_bundles(self, loaded: Callable[[], LoadedBundles]) -> None:
        """Add the metrics of this process and of the bundles that it serves; `loaded` is called at each scrape."""
        self.registry.register(_BundleInfo(loaded))
        ProcessCollector(registry=self.registry)

    def on_batch(self, workload: Workload, count: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        self.batch_entries.labels(workload.name).observe(count)
        self.batch_seconds.labels(workload.name).observe(seconds)
        self.tokens.labels(workload.name, "text").inc(tokens)
        self.tokens.labels(workload.name, "padding").inc(padded_tokens - tokens)

    def on_dropped(self, reason: str) -> None:
        self.shed.labels(reason).inc()


class _BundleInfo(Collector):
    """Versions and bundles as labels, read at the scrape: a swap is seen whole or not at all."""

    def __init__(self, loaded: Callable[[], LoadedBundles]) -> None:
        self._loaded = loaded

    def collect(self) -> Iterator[InfoMetricFamily]:
        server = InfoMetricFamily("genrecall_server", "This server.")
        server.add_metric([], {"version": genrecall.__version__})
        yield server
        labels = ["codebook", "model", "kind", "engine", "current"]
        bundles = InfoMetricFamily("genrecall_bundle", "Bundles loaded.", labels=labels)
        loaded = self._loaded()
        for name, engine in loaded.engines.items():
            kind = engine.bundle.manifest["kind"]
            current = str(name == loaded.current).lower()
            bundles.add_metric([name, engine.bundle.model, kind, engine.name, current], {})
        yield bundles


@contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int | None) -> Iterator[int | None]:
    """Serve the metrics over HTTP inside the context; yields the port. Does nothing where `port` is None.

    Raises UserError when the address is in use.
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
