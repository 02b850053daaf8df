"""Events without a query, attributed to one. Pure, on frames."""

from __future__ import annotations

from datetime import timedelta

import polars as pl


def attribute(events: pl.DataFrame, queries: pl.DataFrame, minutes: float) -> pl.DataFrame:
    """`events` with the `query_id` of the last query of their client at or before them; "" where there is none.

    Args:
        events: LOGGED_EVENTS without a `query_id`.
        queries: `query_id`, `client_id`, `timestamp`.
        minutes: the longest time between a query and an event of it. Clients without an id are nobody.
    """
    asked = queries.filter(pl.col("client_id") != "").sort("timestamp").rename({"query_id": "asked"})
    found = (
        events.with_row_index("_row")
        .sort("timestamp")
        .join_asof(asked, on="timestamp", by="client_id", tolerance=timedelta(minutes=minutes), check_sortedness=False)
        .sort("_row")
    )
    return found.with_columns(query_id=pl.col("asked").fill_null("")).select(events.columns)
