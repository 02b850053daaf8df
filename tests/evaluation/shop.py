"""A shop small enough to follow by hand: 40 items of 4 kinds and 4 colours, a query for each kind in each colour."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genrecall.evaluation.runs import Run, ranking
from genrecall.records import ITEMS, JUDGMENTS, QUERIES, Dataset

KINDS, COLOURS = ("mug", "towel", "lamp", "shoe"), ("red", "blue", "green", "black")


def shop(simulated: bool = False) -> Dataset:
    """Items i00 to i39; queries q00 to q15 "COLOUR KIND". Grade 1 for kind and colour, .1 for the kind alone."""
    items = [
        {
            "item_id": f"i{n:02}",
            "title": f"{COLOURS[n % 4]} {KINDS[n // 10]} model {n}",
            "category": [KINDS[n // 10]],
            "brand": "acme",
            "text": "",
        }
        for n in range(40)
    ]
    queries, judgments = [], []
    for n, (kind, colour) in enumerate((kind, colour) for kind in KINDS for colour in COLOURS):
        queries.append({"query_id": f"q{n:02}", "text": f"{colour} {kind}"})
        for item in items:
            if item["category"] == [kind]:
                grade = 1.0 if str(item["title"]).startswith(colour) else 0.1
                judgments.append({"query_id": f"q{n:02}", "item_id": item["item_id"], "grade": grade})
    return Dataset(
        "shop",
        pa.Table.from_pylist(items, ITEMS),
        pa.Table.from_pylist(queries, QUERIES),
        pa.Table.from_pylist(judgments, JUDGMENTS),
        simulated,
        {"items.jsonl": "0" * 64},
    )


def judgments(**grades: dict[str, float]) -> pa.Table:
    rows = [{"query_id": q, "item_id": i, "grade": g} for q, of in grades.items() for i, g in of.items()]
    return pa.Table.from_pylist(rows, JUDGMENTS)


def run_of(**lists: str) -> Run:
    """`run_of(q1="a b c")`: single-letter items, best first."""
    return {
        query: ranking(np.array(items.split(), dtype=object), np.linspace(1, 0.5, len(items.split())))
        for query, items in lists.items()
    }
