"""Logged queries and their events become requests: what was shown, clicked and bought for each. Pure, on frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import polars as pl

ACTIONS = {"exposure": "exposed", "click": "clicked", "purchase": "purchased"}  # -> the column of REQUESTS
UNKNOWN = 1 << 31  # a position; it sorts last
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
        pages: further pages of an answer, logged under the id of the first.
        rejects: (source, rows of it as logged, reason): what cannot be used and counts against `max_reject_share`.
    """

    requests: pl.DataFrame
    logged: Counts
    dropped: Counts
    pages: int
    rejects: list[tuple[str, pl.DataFrame, str]]


def join(queries: pl.DataFrame, events: pl.DataFrame, catalogue: pl.DataFrame) -> Joined:
    """Join one part of the logs, partitioned by query_id.

    Args:
        queries: LOGGED_QUERIES.
        events: LOGGED_EVENTS.
        catalogue: `item_id` of every item that may be in a request.

    A query logged again by the same client with the same text is another page: what it shows comes after what the rows
    before it showed. Of any other query logged twice the first row counts.

    Left out and counted: events before their query (a clock that is wrong, or a leak), by a client other than that of
    the query, of an item that is not in the catalogue, and the second click on (purchase of, exposure of) an item in
    one request. A click on an item that was not shown is kept. Exposures logged as events come after those of the query
    itself.
    """
    queries, again, pages = _join_pages(queries)
    orphans = events.join(queries, on="query_id", how="anti", maintain_order="left")
    rejects = [
        ("ubi_queries", again, "query_id is a duplicate"),
        ("ubi_events", orphans, "no such logged query"),
    ]
    queries = queries.with_row_index("row")
    origin = queries.select("query_id", "row", queried_by="client_id", queried_at="timestamp")
    events = events.join(origin, on="query_id", how="inner", maintain_order="left")
    shown = queries.filter(pl.col("hits").list.len() > 0).select("row", item_id="hits").explode("item_id")
    logged = _count(events, "logged") + Counter({("exposure", "logged"): len(shown)})
    events, dropped = _possible(events)

    ids = pl.concat([shown["item_id"].unique(), events["item_id"].unique()]).unique()
    here = catalogue.join(ids.to_frame(), on="item_id", how="semi")
    requests = queries.drop("hits", "place", "line")
    acted = []
    for action, column in ACTIONS.items():
        logged_rows = events.filter(pl.col("action") == action)
        kept = logged_rows.join(here, on="item_id", how="semi", maintain_order="left")
        dropped[action, "not in the catalogue"] += len(logged_rows) - len(kept)
        if action == "exposure":
            visible = shown.join(here, on="item_id", how="semi", maintain_order="left")
            dropped[action, "not in the catalogue"] += len(shown) - len(visible)
            kept = pl.concat([visible, kept.select(visible.columns)])
        else:
            acted.append(kept)
        once = kept.filter(pl.struct("row", "item_id").is_first_distinct())
        dropped[action, "the same item again"] += len(kept) - len(once)
        requests = _with(requests, once, {column: "item_id"})
    acts = pl.concat(acted).sort("timestamp", maintain_order=True)
    requests = _with(requests, acts, {"acted": "item_id", "acted_at": "timestamp"})
    return Joined(requests.drop("row"), logged, dropped, pages, rejects)


def _join_pages(queries: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """The queries, each once with the hits of its pages and its earliest time; rows that are no pages; how many are."""
    first = pl.col("query_id").is_first_distinct()
    if queries.select(first.all()).item():
        return queries, queries.clear(), 0
    same = pl.struct(pl.col("client_id"), pl.col("text").str.to_lowercase())
    is_page = same == same.first().over("query_id")
    again, rows = queries.filter(~is_page), queries.filter(is_page)
    hits = rows.sort("timestamp", maintain_order=True).group_by("query_id", maintain_order=True)
    joined = hits.agg(pl.col("hits").explode().drop_nulls(), pl.col("timestamp").min())
    once = rows.filter(first).drop("hits", "timestamp").join(joined, on="query_id", how="left", maintain_order="left")
    return once.select(queries.columns), again, len(rows) - len(once)


def _possible(events: pl.DataFrame) -> tuple[pl.DataFrame, Counts]:
    """The events that can be, in the order of their lists, and how many cannot."""
    both_known = (pl.col("client_id") != "") & (pl.col("queried_by") != "")
    dropped: Counts = Counter()
    for bad, reason in (
        (pl.col("timestamp") < pl.col("queried_at"), "before its query"),
        (both_known & (pl.col("client_id") != pl.col("queried_by")), "by another client"),
    ):
        dropped += _count(events.filter(bad), reason)
        events = events.filter(~bad)
    rank = pl.when(pl.col("position") < 0).then(UNKNOWN).otherwise("position")
    order = pl.when(pl.col("action") == "exposure").then(rank).otherwise(0)
    return events.sort(order, "timestamp", maintain_order=True), dropped


def _with(requests: pl.DataFrame, rows: pl.DataFrame, lists: dict[str, str]) -> pl.DataFrame:
    """`requests` with a list of each of some columns of `rows`, by `row`, empty where it has none."""
    lists_of = rows.group_by("row", maintain_order=True).agg(**{name: pl.col(column) for name, column in lists.items()})
    joined = requests.join(lists_of, on="row", how="left", maintain_order="left")
    return joined.with_columns(pl.col(*lists).fill_null([]))


def _count(events: pl.DataFrame, reason: str) -> Counts:
    return Counter({(action, reason): count for action, count in events["action"].value_counts().iter_rows()})
