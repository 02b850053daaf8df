"""What a client had clicked or bought before each of its requests. Pure, on frames."""

from __future__ import annotations

from itertools import islice

import polars as pl


def with_recent(requests: pl.DataFrame, limit: int) -> pl.DataFrame:
    """`requests` with `recent`: list[str], at most `limit` items, each once, the newest first.

    Only actions with a time strictly before the request's count, so no request sees its own or a later one. A client
    without an id has no past. Items of the same millisecond come in descending order of their ids.

    Args:
        requests: `client_id`, `timestamp`, `acted`, `acted_at`, any others; all requests of every client in it.
    """
    requests = requests.with_row_index("_row")
    acts = actions(requests).with_columns(_row=pl.lit(None, pl.UInt32))
    asks = requests.select("client_id", "timestamp", "_row", item_id=pl.lit(None, pl.String))
    # nulls first: at the same moment a request comes before an action, and so does not see it
    line = pl.concat([acts.select(asks.columns), asks]).sort("client_id", "timestamp", "item_id", nulls_last=False)
    rows, lists = [], []
    current, past = None, dict[str, None]()
    for client, row, item in line.select("client_id", "_row", "item_id").iter_rows():
        if client != current:
            current, past = client, {}
        if item is None:
            rows.append(row)
            lists.append(list(islice(reversed(past), limit)))
        else:
            past.pop(item, None)  # a dict keeps the order of insertion: the item becomes the newest
            past[item] = None
    recent = pl.DataFrame({"_row": rows, "recent": lists}, {"_row": pl.UInt32, "recent": pl.List(pl.String)})
    return requests.join(recent, on="_row", how="left", maintain_order="left").drop("_row")


def actions(requests: pl.DataFrame) -> pl.DataFrame:
    """Every click and purchase of clients with an id: `client_id`, `item_id`, `timestamp`."""
    acted = requests.filter((pl.col("client_id") != "") & (pl.col("acted").list.len() > 0))
    return acted.select("client_id", item_id="acted", timestamp="acted_at").explode("item_id", "timestamp")
