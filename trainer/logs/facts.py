"""Figures of requests: read in slices from disk, so that there may be any number of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa

from trainer.logs.join import ACTIONS

SLICE = 65_536  # requests processed together
POSITIONS = 20  # ranks whose clicks are counted apart
PROFILES = "gender", "age_band"
PROFILES_SHOWN = 20  # the most frequent values
SUMS = "exposures", "clicks", "purchases"


def facts(requests: pa.Table, done: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
    """JSON-ready facts about REQUESTS that are ordered by time. done: called with the number of requests processed.

    `positions` has a row for each of the first ranks: how often an item was shown there, and how often clicked. A click
    on an item that its request did not show is one of `clicks_not_shown` and does not count for the click-through rate.
    """
    count: Counter[str] = Counter()
    history: Counter[int] = Counter()
    profiles: dict[str, Counter[str]] = {name: Counter() for name in PROFILES}
    items = {column: pl.Series(column, dtype=pl.String) for column in ACTIONS.values()}
    texts = pl.Series("text", dtype=pl.UInt64)
    ranks: list[pl.DataFrame] = []
    for start in range(0, len(requests), SLICE):
        rows = pl.DataFrame(requests.slice(start, SLICE))
        for column in ACTIONS.values():
            count[column] += int(rows[column].list.len().sum())
            count[f"with {column}"] += int((rows[column].list.len() > 0).sum())
            items[column] = pl.concat([items[column], rows[column].explode().drop_nulls()]).unique()
        history.update(dict(rows["recent"].list.len().value_counts().iter_rows()))
        for name, values in profiles.items():
            values.update(dict(rows[name].value_counts().iter_rows()))
        texts = pl.concat([texts, rows["text"].hash()]).unique()
        ranks.append(_ranks(rows))
        done(len(rows))
    shown = pl.concat(ranks).group_by("position").sum().sort("position") if ranks else _ranks(pl.DataFrame(requests))
    on_shown = int(shown["clicked"].sum())
    return {
        "since": _time(requests, 0),
        "until": _time(requests, -1),
        "texts": len(texts),
        **{name: count[column] for name, column in zip(SUMS, ACTIONS.values(), strict=True)},
        "clicks_not_shown": count["clicked"] - on_shown,
        "click_through_rate": on_shown / max(1, count["exposed"]),
        "requests_with": {column: count[f"with {column}"] for column in ACTIONS.values()},
        "requests_with_history": sum(number for length, number in history.items() if length),
        "history": [history[length] for length in range(max(history, default=0) + 1)],
        "profiles": {name: dict(values.most_common(PROFILES_SHOWN)) for name, values in profiles.items()},
        "items": {column: len(seen) for column, seen in items.items()},
        "positions": shown.filter(pl.col("position") <= POSITIONS).to_dicts(),
    }


def _time(requests: pa.Table, row: int) -> str:
    return requests["timestamp"][row].as_py().isoformat(sep=" ", timespec="seconds") if len(requests) else ""


def _ranks(rows: pl.DataFrame) -> pl.DataFrame:
    """By `position` in the answers, 1 upwards: how many items were `shown` there, and how many of them `clicked`."""
    rows = rows.with_row_index("row")
    clicks = rows.select("row", item_id="clicked").explode("item_id").with_columns(clicked=True)
    ranks = rows.filter(pl.col("exposed").list.len() > 0)
    ranks = ranks.select("row", item_id="exposed", position=pl.int_ranges(1, pl.col("exposed").list.len() + 1))
    rows = ranks.explode("item_id", "position").join(clicks, on=["row", "item_id"], how="left")
    return rows.group_by("position").agg(shown=pl.len().cast(pl.Int64), clicked=pl.col("clicked").sum().cast(pl.Int64))
