"""Metrics of a server in several processes: what the fronts tell every second, added up with what the engine counts.

A front that ends leaves what it counted behind, so that no counter ever falls; what it counted since it last told is
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


def snapshot(registry: CollectorRegistry) -> list[Family]:
    """What is counted now, as JSON can have it. Without times of creation, which do not add up."""
    return [
        [
            family.name,
            family.type,
            family.documentation,
            [[s.name, s.labels, s.value] for s in family.samples if not s.name.endswith("_created")],
        ]
        for family in registry.collect()
    ]


def encoded(registry: CollectorRegistry) -> bytes:
    return json.dumps(snapshot(registry)).encode()


class Totals(Collector):
    """Adds up `own` and what fronts told. Told on the event loop, collected on the thread of a scrape."""

    def __init__(self, own: CollectorRegistry) -> None:
        self._own = own
        self._told: tuple[dict[object, list[Family]], list[Family]] = ({}, [])  # of fronts, and of those that left

    def told(self, front: object, families: list[Family]) -> None:
        fronts, past = self._told
        self._told = ({**fronts, front: families}, past)

    def left(self, front: object) -> None:
        fronts, past = self._told
        last = [family for family in fronts.get(front, []) if family[1] != "gauge"]
        kept = [
            [m.name, m.type, m.documentation, [[s.name, s.labels, s.value] for s in m.samples]]
            for m in _sum([past, last])
        ]
        self._told = ({one: families for one, families in fronts.items() if one is not front}, kept)

    def collect(self) -> Iterator[Metric]:
        fronts, past = self._told
        yield from _sum([snapshot(self._own), past, *fronts.values()])


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
