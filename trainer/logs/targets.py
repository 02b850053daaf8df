"""What people clicked and bought for a query, as graded judgments: for a shop that has logs and nobody who judges."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from genrecall.records import JUDGMENTS, QUERIES


def query_targets(requests: pa.Table) -> tuple[pa.Table, pa.Table]:
    """(QUERIES, JUDGMENTS) of the requests' texts that somebody clicked or bought something for.

    A text is taken without case and with single spaces. The grade of an item is in how many requests of the text it was
    clicked plus in how many it was bought, divided by the largest such number of the text: in (0, 1]. Queries are named
    `log-1`, `log-2`, ... in the order in which their texts first appear.

    Args:
        requests: REQUESTS.
    """
    columns = requests.select(["text", "clicked", "purchased"])
    logged = (
        pl.DataFrame(columns).with_columns(item_id=pl.concat_list("clicked", "purchased")).select("text", "item_id")
    )
    logged = logged.filter(pl.col("item_id").list.len() > 0).with_row_index("first")
    spellings = logged.group_by("text").agg(pl.col("first").min())
    texts = [" ".join(text.casefold().split()) for text in spellings["text"].to_list()]
    spellings = spellings.with_columns(plain=pl.Series(texts, dtype=pl.String))
    queries = spellings.group_by("plain").agg(pl.col("first").min()).sort("first").with_row_index("number", offset=1)
    queries = queries.select("plain", query_id=pl.format("log-{}", "number"))
    query_of = spellings.join(queries, on="plain").select("text", "query_id")
    counts = logged.select("text", "item_id").explode("item_id").group_by("text", "item_id").len()
    counts = counts.join(query_of, on="text").group_by("query_id", "item_id").agg(pl.col("len").sum())
    graded = counts.with_columns(grade=(pl.col("len") / pl.col("len").max().over("query_id")).cast(pl.Float32))
    order = queries.select("query_id").with_row_index("number")
    graded = graded.join(order, on="query_id").sort(["number", "grade", "item_id"], descending=[False, True, False])
    return (
        _arrow(queries.select("query_id", text="plain"), QUERIES),
        _arrow(graded.select(JUDGMENTS.names), JUDGMENTS),
    )


def _arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)
