"""Loaded by opensearch-benchmark, in its own environment: searches whose bodies `benchmarks.node_load` has written."""

import json
from pathlib import Path
from typing import Any


class Bodies:
    """The lines of a file in turns, each the body of a search."""

    def __init__(self, workload: Any, params: dict[str, Any], **_: Any) -> None:
        self._params = params
        self._lines = (Path(__file__).parent / params["bodies"]).read_text(encoding="utf-8").splitlines()
        self._next = 0

    def partition(self, partition_index: int, total_partitions: int) -> "Bodies":
        part = Bodies.__new__(Bodies)
        part._params, part._lines, part._next = self._params, self._lines[partition_index::total_partitions], 0
        return part

    def params(self) -> dict[str, Any]:
        line = self._lines[self._next % len(self._lines)]
        self._next += 1
        return {
            "index": self._params["index"],
            "body": json.loads(line),
            "cache": False,
        }


def register(registry: Any) -> None:
    registry.register_param_source("bodies", Bodies)
