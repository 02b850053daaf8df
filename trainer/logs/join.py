"""Logged queries and their events become requests: what was shown, clicked and bought for each. Pure, on frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import polars as pl

ACTIONS = {"exposure": "exposed", "click": "clicked", "purchase": "purchased"}  # -> the column of REQUESTS
LATER = 1 << 31  # exposures logged as events come after those of the query itself, unknown positions last
Counts = Counter[tuple[str, str]]
"""(action, reason) -> events"""


@dataclass(frozen=True)
class Joined:
    """The requests of one part of the logs.

    Attributes:
        requests: REQUESTS without `recent`; instead `acted`, list[str], the items clicked or bought, and `acted_at`,
            list[datetime], when: every click and purchase, repeated ones too, in the order of time.
        logged: (action, "logged"): the events of these queries, what their answers showed among them.
        dropped: events left out of the requests.
        rejects: (source, rows of it as logged, reason): what cannot be used and counts against `max_reject_share`.
    """

    requests: pl.DataFrame
    logged: Counts
    dropped: Counts
    rejects: list[tuple[str, pl.DataFrame, str]]


def join(queries: pl.DataFrame, events: pl.DataFrame, catalogue: pl.DataFrame) -> Joined:
    """Join one part of the logs, parted by query_id.

    Args:
        queries: LOGGED_QUERIES.
        events: LOGGED_EVENTS.
        catalogue: `item_id` of every item that may be in a request.

    Of a query logged twice the first row counts. Left out and counted: events before their query (a clock that is
    wrong, or a leak), by a client other than the one who asked, of an item that is not in the catalogue, and the second
    click on (purchase of, exposure of) an item in one request. A click on an item that was not shown is kept.
    """
    first = pl.col("query_id").is_first_distinct()
    orphans = events.join(queries, on="query_id", how="anti", maintain_order="left")
    rejects = [
        ("ubi_queries", queries.filter(~first), "query_id is a duplicate"),
        ("ubi_events", orphans, "no such logged query"),
    ]
    queries = queries.filter(first)
    events = _told(queries, events)
    logged = _count(events, "logged")

    ids = events.select("item_id").unique()
    here = catalogue.join(ids, on="item_id", how="semi").with_columns(here=True)
    events = events.join(here, on="item_id", how="left", maintain_order="left")
    both_known = (pl.col("client_id") != "") & (pl.col("asked_by") != "")
    again = ~pl.struct("query_id", "action", "item_id").is_first_distinct()
    dropped: Counts = Counter()
    for bad, reason in (
        (pl.col("timestamp") < pl.col("asked_at"), "before its query"),
        (both_known & (pl.col("client_id") != pl.col("asked_by")), "by another client"),
        (pl.col("here").is_null(), "not in the catalogue"),
    ):
        dropped.update(_count(events.filter(bad), reason))
        events = events.filter(~bad)
    events = events.sort("order", "timestamp", maintain_order=True)
    dropped.update(_count(events.filter(again), "the same item again"))
    requests = _with_lists(queries.drop("hits", "place", "line"), events, events.filter(~again))
    return Joined(requests, logged, dropped, rejects)


def _told(queries: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """All that is known of the queries as events: what their answers showed, then their events.

    Columns: `query_id`, `client_id`, `timestamp`, `action`, `item_id`; `order`, of exposures, otherwise 0; `asked_by`
    and `asked_at`, client and time of the query.
    """
    shown = queries.filter(pl.col("hits").list.len() > 0).select(
        "query_id",
        "client_id",
        "timestamp",
        action=pl.lit("exposure"),
        item_id="hits",
        order=pl.int_ranges(pl.col("hits").list.len()),
    )
    shown = shown.explode("item_id", "order")
    rank = pl.when(pl.col("position") == 0).then(LATER).otherwise("position").cast(pl.Int64) + LATER
    events = events.with_columns(order=pl.when(pl.col("action") == "exposure").then(rank).otherwise(0))
    asked = queries.select("query_id", asked_by="client_id", asked_at="timestamp")
    every = pl.concat([shown, events.select(shown.columns)])
    return every.join(asked, on="query_id", how="inner", maintain_order="left")


def _with_lists(requests: pl.DataFrame, events: pl.DataFrame, once: pl.DataFrame) -> pl.DataFrame:
    """`requests` with `acted` and `acted_at` out of `events`, and the sets out of `once`."""
    acts = events.filter(pl.col("action") != "exposure").group_by("query_id", maintain_order=True)
    lists = [acts.agg(acted="item_id", acted_at="timestamp")]
    for action, column in ACTIONS.items():
        chosen = once.filter(pl.col("action") == action).group_by("query_id", maintain_order=True)
        lists.append(chosen.agg(pl.col("item_id").alias(column)))
    for found in lists:
        requests = requests.join(found, on="query_id", how="left", maintain_order="left")
    return requests.with_columns(pl.col(pl.List(pl.String), pl.List(pl.Datetime("ms", "UTC"))).fill_null([]))


def _count(events: pl.DataFrame, reason: str) -> Counts:
    return Counter({(action, reason): count for action, count in events["action"].value_counts().iter_rows()})
