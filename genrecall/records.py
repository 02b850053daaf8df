"""The records that all parts share: items, queries, requests, judgments, assignments, as pyarrow schemas.

Owns the schemas, not the reading: `genrecall.data.readers` turns files and indices into these tables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("category", pa.list_(pa.string()), nullable=False),  # from general to specific; empty where unknown
        pa.field("brand", pa.string(), nullable=False),  # "" where unknown
        pa.field("text", pa.string(), nullable=False),  # anything else worth searching; "" where there is none
    ]
)

# Behind those of ITEMS where `data.items.fields.extra` asks for it: a JSON object of an item's further fields.
EXTRA = pa.field("extra", pa.string(), nullable=False)

QUERIES = pa.schema([pa.field("query_id", pa.string(), nullable=False), pa.field("text", pa.string(), nullable=False)])

JUDGMENTS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("grade", pa.float32(), nullable=False),  # 0 irrelevant; larger is better; 1.0 the best a dataset has
    ]
)

# Judgments by logs in two parts, by what people wanted before a moment, the metadata `cut`, and by what `later`.
RECURRING = JUDGMENTS.append(pa.field("later", pa.bool_(), nullable=False))

# One logged query with its exposures, clicks and purchases: the training data of stages 3 and 4, derived from the logs
# by `trainer.logs`. All items are in the catalogue; each list holds an item once.
REQUESTS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("client_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("gender", pa.string(), nullable=False),  # "" where unknown, as is age_band
        pa.field("age_band", pa.string(), nullable=False),
        # clicked or bought by the client strictly before the timestamp, in earlier requests; newest first
        pa.field("recent", pa.list_(pa.string()), nullable=False),
        pa.field("exposed", pa.list_(pa.string()), nullable=False),  # in the order shown
        pa.field("clicked", pa.list_(pa.string()), nullable=False),  # in the order of the clicks
        pa.field("purchased", pa.list_(pa.string()), nullable=False),
    ]
)

ASSIGNMENTS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("codes", pa.list_(pa.int32(), 3), nullable=False),
        pa.field("path", pa.string(), nullable=False),  # the codes as the term writes them: "12/40/733"
    ]
)


def item_rows(items: pa.Table) -> list[dict[str, Any]]:
    """Each row of a table of ITEMS, its further fields (EXTRA) among the others."""
    rows: list[dict[str, Any]] = items.to_pylist()
    if EXTRA.name not in items.column_names:
        return rows
    return [row | json.loads(row.pop(EXTRA.name)) for row in rows]


def extra_names(items: pa.Table) -> list[str]:
    """The names of all further fields (EXTRA) that a table of ITEMS has, in the order of their first rows."""
    if EXTRA.name not in items.column_names:
        return []
    rows = (text.as_py() for chunk in items[EXTRA.name].chunks for text in chunk)
    return list(dict.fromkeys(name for text in rows for name in json.loads(text)))


def relevant(judgments: pa.Table, least: float) -> pa.Table:
    """The rows of a JUDGMENTS table with a grade of at least `least`.

    Compared as float32, as grades are kept: 0.7 as a double is above the grade 0.7.
    """
    return judgments.filter(pc.greater_equal(judgments["grade"], pa.scalar(least, pa.float32())))


@dataclass(frozen=True)
class Dataset:
    """A catalogue with its queries and judgments.

    Attributes:
        name: such as `esci-us`.
        items: ITEMS, unique by item_id.
        queries: QUERIES, unique by query_id.
        judgments: JUDGMENTS; every row names a known query and a known item.
        simulated: whether the judgments or logs were generated rather than observed; every figure drawn from such a
            dataset is labelled "simulated".
        fingerprints: sha256 of each file read, by name; of the records where they came from an index.
    """

    name: str
    items: pa.Table
    queries: pa.Table
    judgments: pa.Table
    simulated: bool = False
    fingerprints: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """Judgments to train on, to tune on and to test on. All three are JUDGMENTS tables.

    With unseen queries the three share no query (nor a reordering of one). With recurring queries a test query has some
    of its items in `train`: remove those from each result list before it is evaluated. `cut`: where dev and test are
    what people did from that moment on, so that only what was logged before may be trained on. `returning`: items of
    `train` count as well where people wanted them again, and nothing is removed.
    """

    name: str
    train: pa.Table
    dev: pa.Table
    test: pa.Table
    cut: datetime | None = None
    returning: bool = False
