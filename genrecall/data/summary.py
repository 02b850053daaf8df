"""Counts of a dataset, which show at a glance whether it was read as intended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from genrecall.config import Config
from genrecall.data.rejects import Rejects
from genrecall.data.splits import kfold_splits, read_split, recurring_split
from genrecall.errors import UserError
from genrecall.records import Dataset, Split

COMMON = 5  # values shown of those that are most common
FEW = 20  # items; of fewer nothing is odd


def summarize(dataset: Dataset, config: Config, rejects: Rejects) -> dict[str, Any]:
    """JSON-ready facts about a dataset that was read with `rejects`, and its splits as a run of `config` makes them."""
    items = len(dataset.items)
    categories = dataset.items["category"].to_pylist()
    relevant = dataset.judgments["grade"].to_numpy() >= config.data.relevant
    _, of_query = np.unique(np.asarray(dataset.judgments["query_id"].to_pylist())[relevant], return_counts=True)
    judged = len(set(dataset.judgments["query_id"].to_pylist()))
    brands = [brand for brand in dataset.items["brand"].to_pylist() if brand]
    common = {
        "brands": Counter(brands),
        "categories": Counter(" > ".join(path) for path in categories if path),
        "top categories": Counter(path[0] for path in categories if path),
    }
    for note in _category_notes(items, common):
        rejects.note("items", note)
    return {
        "name": dataset.name,
        "simulated": dataset.simulated,
        "items": items,
        "items_without_category": sum(not path for path in categories),
        "items_without_brand": items - len(brands),
        "categories": len({tuple(path) for path in categories if path}),
        "top_categories": len({path[0] for path in categories if path}),
        "brands": len(set(brands)),
        "queries": len(dataset.queries),
        "queries_judged": judged,
        "queries_without_relevant_item": judged - len(of_query),
        "judgments": len(dataset.judgments),
        "relevant": int(relevant.sum()),
        "judgments_a_query": round(len(dataset.judgments) / max(1, judged), 1),
        "relevant_a_query": {
            name: float(np.quantile(of_query, q)) if len(of_query) else 0.0
            for name, q in (("median", 0.5), ("most", 1.0))
        },
        "most_common": {name: dict(counts.most_common(COMMON)) for name, counts in common.items()},
        "columns": rejects.facts,
        "left_out": {source: dict(reasons.most_common()) for source, reasons in rejects.left_out.items()},
        "notes": rejects.notes,
        "rejects": {source: dict(reasons.most_common()) for source, reasons in rejects.reasons.items()},
        "splits": {name: _sizes(split) for name, split in _splits(dataset, config)},
    }


def _category_notes(items: int, common: dict[str, Counter[str]]) -> Iterator[str]:
    """What is odd about the categories, which the first level of codes is made from."""
    paths = common["categories"]
    setting = "check data.items.fields.category and .separator"
    if items >= FEW and len(paths) * 2 > items:
        yield f"{len(paths):,} different categories of {items:,} items: are these names of items? {setting}"
    elif items >= FEW and len(paths) == 1 and paths.total() * 2 > items:
        yield f"all items are of one category, {next(iter(paths))!r}: it says nothing about them; {setting}"
    elif items >= FEW and not paths:
        yield f"no item has a category; where the catalogue has some, {setting}"


def _splits(dataset: Dataset, config: Config) -> list[tuple[str, Split]]:
    if not len(dataset.judgments):  # a catalogue without judgments has nothing to split
        return []
    folds, seed, path = config.evaluation.folds, config.run.seed, config.data.folder / "splits.json"
    splits = []
    with suppress(UserError):  # fewer distinct queries than folds
        splits.append((f"fold0 of {folds}", kfold_splits(dataset, folds, seed)[0]))
    if path.is_file():
        splits.append(("splits.json", read_split(dataset, path)))
    return [
        *splits,
        ("recurring", recurring_split(dataset, seed, relevant=config.data.relevant, folder=config.data.folder)),
    ]


def _sizes(split: Split) -> dict[str, dict[str, int]]:
    parts = {"train": split.train, "dev": split.dev, "test": split.test}
    return {
        name: {"queries": len(set(part["query_id"].to_pylist())), "judgments": len(part)}
        for name, part in parts.items()
    }
