"""Judgments out of logs, for a shop that has nobody who judges: what people clicked and bought for a query.

They are no judgments of relevance: an item that was never shown has no click, and one that was shown high has more than
it deserves. The dataset that is written says so in its name.
"""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from genrecall.config import Config
from genrecall.data.events import has_logs
from genrecall.data.readers import read_dataset
from genrecall.data.rejects import Rejects
from genrecall.data.sources import resolve_sources, source_files
from genrecall.data.splits import write_recurring
from genrecall.data.writers import new_dataset, write_description
from genrecall.errors import UserError
from genrecall.records import JUDGMENTS, QUERIES, RECURRING
from trainer.logs.parts import TRAIN
from trainer.logs.requests import build_requests, open_requests
from trainer.logs.split import parts_by_time

MOST_WEIGHT = 10.0  # of a click, however low its item was shown


def judge(config: Config, out: Path, share: float, least: int, propensity: float) -> dict[str, Any]:
    """Write the dataset of `config.data` again, judged by its logs; returns its description.

    Items and logs stay where they are. An item counts for a query with the clicks and purchases of all requests of that
    text, divided by those of the query's best item; with `propensity` a click is weighted by the inverse of how likely
    its rank is looked at. From `share` on the grade is 1, so that the item is relevant. Recurring queries are parted by
    time: known is what was clicked or bought before the newest `logs.dev_share` + `logs.test_share` of the requests, to
    be found what was first wanted in these.

    Args:
        config: names the dataset.
        out: a new folder.
        share: of the best item's clicks, from which on an item is relevant.
        least: requests of a text with a click or purchase, below which a query is left out.
        propensity: eta of the assumption that rank r is looked at with probability 1 / r ** eta; 0 weights nothing.

    Raises:
        UserError: no logs, or no query with enough clicks.
    """
    section, simulated = resolve_sources(config.data)
    if not has_logs(section):
        raise UserError(f"{section.name} has no logs: import ubi_queries and ubi_events, or a table of clicks, with it")
    with Rejects(config.run.dir / "rejects.jsonl") as rejects:
        dataset = read_dataset(config.data, rejects)
        requests = build_requests(config.data, config.logs, dataset.items, config.run.dir / "logs", rejects)
    table = open_requests(requests)
    queries, judgments = judgments_of(table, share, least, propensity)
    if not len(judgments):
        raise UserError(
            f"no query of {section.name} has {least} requests with a click or purchase: lower --least, or look at the "
            "actions of the log with `genrecall data check`"
        )
    about = {
        "judged_by": "clicks and purchases",
        "position_bias": f"weighted by rank ** {propensity:g}, at most {MOST_WEIGHT:g}"
        if propensity
        else "not corrected",
        **{"share": share, "least": least, "queries": len(queries), "judgments": len(judgments)},
    }
    time = table["timestamp"].to_numpy().astype("datetime64[ms]")
    late = parts_by_time(time, config.logs) != TRAIN
    recurring = recurring_of(table, late, share, least, propensity)
    cut = time[late].min().item().replace(tzinfo=UTC)
    returning = _returning(recurring)
    about |= {"cut": cut.isoformat() if returning else None, "queries_to_find_more_for": returning}
    description: dict[str, Any] = {"name": f"{section.name}, judged by clicks", "simulated": simulated, "about": about}
    for name in ("items", "ubi_queries", "ubi_events"):
        source = getattr(section, name)
        paths = [str(path.resolve()) for path in source_files(section, name)]
        if paths or source.index:
            described = source.model_copy(update={"path": paths})
            description[name] = described.model_dump(mode="json", exclude_defaults=True)
    with new_dataset(out) as folder:
        for name, table in (("queries", queries), ("judgments", judgments)):
            pq.write_table(table, folder / f"{name}.parquet")
            description[name] = {"path": f"{name}.parquet"}
        if returning:
            write_recurring(folder, recurring, cut)
        write_description(folder, description)
    return description


def _returning(recurring: pa.Table) -> int:
    """Queries with a relevant item from before the cut and another one first wanted after it."""
    frame = pl.DataFrame(recurring).filter(pl.col("grade") >= 1)
    first = frame.group_by("query_id", "item_id").agg(pl.col("later").min())
    return len(first.group_by("query_id").agg(pl.col("later").n_unique()).filter(pl.col("later") == 2))


def judgments_of(requests: pa.Table, share: float, least: int, propensity: float) -> tuple[pa.Table, pa.Table]:
    """(QUERIES, JUDGMENTS) of REQUESTS, in the order in which their texts first appear. Args as of `judge`."""
    acted, asked = _acted(requests, least, propensity)
    return _arrow(asked.select("query_id", "text"), QUERIES), _arrow(_graded(acted, share), JUDGMENTS)


def recurring_of(requests: pa.Table, late: np.ndarray, share: float, least: int, propensity: float) -> pa.Table:
    """RECURRING: what was wanted before a moment, by the requests before it, and what after it, by those after.

    late: bool [requests]. Other args as of `judge`.
    """
    acted, _ = _acted(requests, least, propensity)
    after = pl.Series(late)[acted["row"]]
    before, later = (_graded(acted.filter(part), share) for part in (~after, after))
    parts = [part.with_columns(later=pl.lit(is_later)) for part, is_later in ((before, False), (later, True))]
    return _arrow(pl.concat(parts), RECURRING)


def _acted(requests: pa.Table, least: int, propensity: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(row, query_id, number, item_id, weight of every click and purchase; query_id, text of those with enough)."""
    rows = pl.DataFrame(requests.select(["text", "exposed", "clicked", "purchased"])).with_row_index("row")
    texts = [" ".join(text.casefold().split()) for text in rows["text"].to_list()]
    rows = rows.with_columns(text=pl.Series(texts, dtype=pl.String))
    shown = rows.select("row", item_id="exposed").filter(pl.col("item_id").list.len() > 0).explode("item_id")
    shown = shown.with_columns(rank=pl.int_range(1, pl.len() + 1).over("row"))
    acted = rows.select("row", "text", item_id=pl.concat_list("clicked", "purchased"))
    acted = acted.filter(pl.col("item_id").list.len() > 0).explode("item_id")
    acted = acted.join(shown, on=["row", "item_id"], how="left", maintain_order="left")
    weight = (pl.col("rank").fill_null(1).cast(pl.Float64) ** propensity).clip(upper_bound=MOST_WEIGHT)
    acted = acted.with_columns(weight=weight)
    asked = acted.group_by("text").agg(first=pl.col("row").min(), requests=pl.col("row").n_unique())
    asked = asked.filter(pl.col("requests") >= least).sort("first").with_row_index("number", offset=1)
    asked = asked.with_columns(query_id=pl.format("log-{}", "number"))
    return acted.join(asked, on="text"), asked


def _graded(acted: pl.DataFrame, share: float) -> pl.DataFrame:
    """JUDGMENTS, by query and then by grade."""
    graded = acted.group_by("query_id", "number", "item_id").agg(pl.col("weight").sum())
    part = pl.col("weight") / pl.col("weight").max().over("query_id")
    graded = graded.with_columns(grade=pl.when(part >= share).then(1.0).otherwise(part).cast(pl.Float32))
    graded = graded.sort(["number", "grade", "item_id"], descending=[False, True, False])
    return graded.select(JUDGMENTS.names)


def _arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)
