"""Neither the future nor held-out queries may be known: checks that share no code with what built the tables."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from genrecall.config.logs import LogsSection
from genrecall.records import Split
from trainer.logs.parts import TRAIN, RequestSplit, held_out
from trainer.logs.recent import actions

CLIENTS = 2000  # checked by `check_no_leak`


class LeakError(RuntimeError):
    """Training would see what it must not. The message says what, and an example."""


def check_no_leak(
    requests: pa.Table, parts: RequestSplit, split: Split, queries: pa.Table, logs: LogsSection, seed: int = 0
) -> None:
    """Raise LeakError where training, or a request, knows what it must not.

    Looked for: a request to train on of a query held out, in any order or inflection of its words; with split=time one
    that is not older than all of dev and test; and, for the clients of CLIENTS random requests, a recent item that the
    client had not clicked or bought in an earlier request, or that is listed twice.

    Args:
        requests: REQUESTS, all that were split.
        parts: of them.
        split, queries, logs: those of `split_requests`.
        seed: chooses the clients.
    """
    texts = parts.train["text"]
    held = np.flatnonzero(held_out(texts, split, queries) != TRAIN)
    if len(held):
        raise LeakError(f"{len(held):,} requests to train on are of queries held out, such as {texts[held[0]]}")
    if logs.split == "time":
        _check_order(parts)
    _check_past(requests, np.random.default_rng(seed))


def check_recent(requests: pl.DataFrame) -> None:
    """Raise LeakError where `recent` holds an item that its client had not acted on strictly before the request.

    requests: `query_id`, `client_id`, `timestamp`, `recent`, `acted`, `acted_at`; all requests of every client in it.
    """
    first = actions(requests).group_by("client_id", "item_id").agg(since=pl.col("timestamp").min())
    held = requests.filter(pl.col("recent").list.len() > 0)
    held = held.select("query_id", "client_id", "timestamp", item_id="recent").explode("item_id")
    since = held.join(first, on=["client_id", "item_id"], how="left")
    leaks = since.filter(pl.col("since").is_null() | (pl.col("since") >= pl.col("timestamp")))
    if len(leaks):
        leak = leaks.row(0, named=True)
        raise LeakError(
            f"{len(leaks):,} recent items are from the future, such as {leak['item_id']} of request {leak['query_id']}"
        )


def _check_order(parts: RequestSplit) -> None:
    order = [("train", parts.train), ("dev", parts.dev), ("test", parts.test)]
    spans = [(name, pc.min_max(part["timestamp"])) for name, part in order if len(part)]
    for (early, first), (late, second) in pairwise(spans):
        if first["max"].as_py() >= second["min"].as_py():
            raise LeakError(f"{early} has a request of {first['max']}, and {late} begins at {second['min']}")


def _check_past(requests: pa.Table, random: np.random.Generator) -> None:
    rows = np.unique(random.integers(len(requests), size=CLIENTS)) if len(requests) else np.empty(0, np.int64)
    sample = requests["client_id"].take(pa.array(rows)).unique()
    columns = "timestamp", "query_id", "client_id", "recent", "clicked", "purchased"
    theirs = requests.select(columns).filter(pc.is_in(requests["client_id"], sample))
    since: dict[tuple[str, str], object] = {}  # (client, item) -> the first request in which it was acted on
    for row in sorted(theirs.to_pylist(), key=lambda row: row["timestamp"]):
        client, recent = row["client_id"], row["recent"]
        for item in recent:
            known = client and since.get((client, item), row["timestamp"]) < row["timestamp"]
            if not known or recent.count(item) > 1:
                raise LeakError(
                    f"request {row['query_id']} of client {client!r} at {row['timestamp']} has {item} among its recent "
                    "items: the client had not clicked or bought it in an earlier request, or it is listed twice"
                )
        for item in (*row["clicked"], *row["purchased"]):
            since.setdefault((client, item), row["timestamp"])
