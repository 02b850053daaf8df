"""Metrics of a server in several processes: frontends report theirs every second; the engine process adds them up.

The counts of a frontend that ends are kept, so that no counter ever falls; what it counted after its last report is
lost. `process_*` are those of the engine process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

Family = list[Any]
"""Name, type, help, and samples as [name, labels, value]."""


def snapshot(metrics: Iterable[Metric]) -> list[Family]:
    """The values now, ready for JSON. Without creation times, which do not add up."""
    return [
        [
            family.name,
            family.type,
            family.documentation,
            [[s.name, s.labels, s.value] for s in family.samples if not s.name.endswith("_created")],
        ]
        for family in metrics
    ]


def snapshot_json(registry: CollectorRegistry) -> bytes:
    return json.dumps(snapshot(registry.collect())).encode()


class MetricsAggregator(Collector):
    """Adds up `own` and the reports of frontends. Updated on the event loop, collected on the thread of a scrape."""

    def __init__(self, own: CollectorRegistry) -> None:
        self._own = own
        # By live frontend, and the sum of those that ended. Replaced as one, so that a scrape never sees half a change.
        self._reports: tuple[dict[object, list[Family]], list[Family]] = ({}, [])

    def update(self, frontend: object, families: list[Family]) -> None:
        live, ended = self._reports
        self._reports = ({**live, frontend: families}, ended)

    def remove(self, frontend: object) -> None:
        """Keep the counters of a frontend that ended, not its gauges."""
        live, ended = self._reports
        last = [family for family in live.get(frontend, []) if family[1] != "gauge"]
        remaining = {one: families for one, families in live.items() if one is not frontend}
        self._reports = (remaining, snapshot(_sum([ended, last])))

    def collect(self) -> Iterator[Metric]:
        live, ended = self._reports
        yield from _sum([snapshot(self._own.collect()), ended, *live.values()])


def _sum(parts: Iterable[list[Family]]) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[Any, ...], float]] = {}
    for name, kind, documentation, samples in (family for part in parts for family in part):
        families.setdefault(name, Metric(name, documentation, kind))
        totals = values.setdefault(name, {})
        for sample, labels, value in samples:
            key = (sample, *labels.items())
            totals[key] = totals.get(key, 0.0) + value
    for name, family in families.items():
        for (sample, *labels), value in values[name].items():
            family.add_sample(sample, dict(labels), value)
        yield family
