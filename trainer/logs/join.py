"""Logged queries and their events become requests: what was shown, clicked and bought for each. Pure, on frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import polars as pl

ACTIONS = {"exposure": "exposed", "click": "clicked", "purchase": "purchased"}  # -> the column of REQUESTS
LATER = 1 << 31  # exposures logged as events come after those of the query itself, unknown positions last


@dataclass(frozen=True)
class Joined:
    """The requests of one part of the logs.

    Attributes:
        requests: REQUESTS without `recent`; instead `acted`, list[str], the items clicked or bought, and `acted_at`,
            list[datetime], when: every click and purchase, repeated ones too, in the order of time.
        dropped: events left out, by reason.
        rejects: (source, rows of it as logged, reason): what cannot be used and counts against `max_reject_share`.
    """

    requests: pl.DataFrame
    dropped: Counter[str]
    rejects: list[tuple[str, pl.DataFrame, str]]


def join(queries: pl.DataFrame, events: pl.DataFrame, catalogue: pl.DataFrame) -> Joined:
    """Join one part of the logs, parted by query_id.

    Args:
        queries: LOGGED_QUERIES.
        events: LOGGED_EVENTS.
        catalogue: `item_id` of every item that may be in a request.

    Of a query logged twice the first row counts. Left out and counted: events before their query (a clock that is
    wrong, or a leak), of a client other than the one who asked, of an item that is not in the catalogue, and the second
    click on (purchase of, exposure of) an item in one request. A click on an item that was not shown is kept.
    """
    first = pl.col("query_id").is_first_distinct()
    orphans = events.join(queries, on="query_id", how="anti", maintain_order="left")
    rejects = [
        ("ubi_queries", queries.filter(~first), "query_id is a duplicate"),
        ("ubi_events", orphans, "no such logged query"),
    ]
    queries = queries.filter(first)
    asked = queries.select("query_id", asked_by="client_id", asked_at="timestamp")
    events = events.join(asked, on="query_id", how="inner", maintain_order="left")

    dropped: Counter[str] = Counter()
    events = _drop(events, pl.col("timestamp") < pl.col("asked_at"), "{} before its query", dropped)
    known = (pl.col("client_id") != "") & (pl.col("asked_by") != "")
    events = _drop(events, known & (pl.col("client_id") != pl.col("asked_by")), "{} of another client", dropped)
    unknown = pl.col("position") == 0
    place = pl.when(unknown).then(LATER).otherwise("position").cast(pl.Int64) + LATER
    columns = "query_id", "timestamp", "action", "item_id", "order"
    events = events.with_columns(order=pl.when(pl.col("action") == "exposure").then(place).otherwise(0)).select(columns)
    shown = queries.select("query_id", "timestamp", action=pl.lit("exposure"), item_id="hits")
    shown = shown.filter(pl.col("item_id").list.len() > 0).with_columns(
        order=pl.int_ranges(pl.col("item_id").list.len())
    )
    events = pl.concat([shown.explode("item_id", "order").select(columns), events])
    here = catalogue.join(events.select("item_id").unique(), on="item_id", how="semi")["item_id"].implode()
    events = _drop(events, ~pl.col("item_id").is_in(here), "{} of an item that is not in the catalogue", dropped)

    events = events.sort("order", "timestamp", maintain_order=True)
    acted = (
        events.filter(pl.col("action") != "exposure")
        .group_by("query_id", maintain_order=True)
        .agg(acted="item_id", acted_at="timestamp")
    )
    once = pl.struct("query_id", "action", "item_id").is_first_distinct()
    events = _drop(events, ~once, "{} of the same item again", dropped)
    requests = queries.drop("hits", "place", "line").join(acted, on="query_id", how="left")
    for action, column in ACTIONS.items():
        lists = events.filter(pl.col("action") == action).group_by("query_id", maintain_order=True)
        requests = requests.join(lists.agg(pl.col("item_id").alias(column)), on="query_id", how="left")
    empty = pl.col(pl.List(pl.String), pl.List(pl.Datetime("ms", "UTC"))).fill_null([])
    return Joined(requests.with_columns(empty), dropped, rejects)


def _drop(events: pl.DataFrame, bad: pl.Expr, reason: str, dropped: Counter[str]) -> pl.DataFrame:
    counts = events.filter(bad)["action"].value_counts()
    dropped.update({reason.format(action): count for action, count in counts.iter_rows()})
    return events.filter(~bad)
