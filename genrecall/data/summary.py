"""What a dataset holds, in numbers that show at a glance whether it was read as meant."""

from __future__ import annotations

from typing import Any

import numpy as np

from genrecall.config.data import DataSection
from genrecall.data.rejects import Rejects
from genrecall.data.splits import given, kfold, recurring
from genrecall.errors import UserError
from genrecall.records import Dataset, Split


def summary(dataset: Dataset, section: DataSection, rejects: Rejects, folds: int, seed: int) -> dict[str, Any]:
    """JSON-ready facts about a dataset that was read with `rejects`, split as a run with `folds` and `seed` would."""
    items = len(dataset.items)
    categories = dataset.items["category"].to_pylist()
    relevant = dataset.judgments["grade"].to_numpy() >= section.relevant
    _, of_query = np.unique(np.asarray(dataset.judgments["query_id"].to_pylist())[relevant], return_counts=True)
    judged = len(set(dataset.judgments["query_id"].to_pylist()))
    brands = [brand for brand in dataset.items["brand"].to_pylist() if brand]
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
        "rejects": {source: dict(reasons.most_common()) for source, reasons in rejects.reasons.items()},
        "splits": {name: _sizes(split) for name, split in _splits(dataset, section, folds, seed)},
    }


def _splits(dataset: Dataset, section: DataSection, folds: int, seed: int) -> list[tuple[str, Split]]:
    if not len(dataset.judgments):  # a shop without judgments: there is nothing to part
        return []
    splits = [("recurring", recurring(dataset, seed, relevant=section.relevant))]
    if (section.folder / "splits.json").is_file():
        splits.insert(0, ("splits.json", given(dataset, section.folder / "splits.json")))
    try:
        splits.insert(0, (f"fold0 of {folds}", kfold(dataset, folds, seed)[0]))
    except UserError:  # fewer distinct queries than folds: there is nothing to show
        return splits
    return splits


def _sizes(split: Split) -> dict[str, dict[str, int]]:
    parts = {"train": split.train, "dev": split.dev, "test": split.test}
    return {
        name: {"queries": len(set(part["query_id"].to_pylist())), "judgments": len(part)}
        for name, part in parts.items()
    }
