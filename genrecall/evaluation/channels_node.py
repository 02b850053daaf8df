"""The channels of a real OpenSearch node: query bodies out, rankings back.

Owns batching and the check that every query was answered. The bodies themselves, and how they are sent, are those of
the index and come from the caller, so that what is measured is what a search application would send.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from genrecall.evaluation.channels_offline import batches
from genrecall.evaluation.runs import Channel, Run, ranking

Body = dict[str, Any]
Hits = tuple[np.ndarray, np.ndarray]
"""(item ids str [n], scores float32 [n]), best first."""

Search = Callable[[list[Body]], Sequence[Hits]]
"""Search requests -> the hits of each; raises where one failed."""

Bodies = Callable[[list[str], int], list[Body]]
"""(query texts, depth) -> their search requests."""


def node_channel(search: Search, bodies: Bodies) -> Channel:
    """A channel that sends one search request a query."""

    def channel(queries: pa.Table, depth: int) -> Run:
        run: Run = {}
        for part in batches(queries):
            answers = search(bodies(part["text"].to_pylist(), depth))
            for query_id, (item_ids, scores) in zip(part["query_id"].to_pylist(), answers, strict=True):
                run[query_id] = ranking(item_ids[:depth], scores[:depth])
        return run

    return channel
