"""An evaluation of the shop by channels that know the grades, each off by some noise: figures without training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from genrecall.config.evaluation import EvaluationSection
from genrecall.evaluation.protocol import FoldRuns, retrieve, splits
from genrecall.evaluation.results import (
    ADAPTED,
    BM25,
    GENERATIVE,
    GENERATIVE_TEXT,
    KNN,
    LINEAR,
    PLACEBO,
    ROCCHIO,
    analyse,
)
from genrecall.evaluation.runs import Channel, Run, ranking
from genrecall.reports.collect import EVALUATION_FORMAT
from tests.evaluation.shop import shop

SECTION = EvaluationSection(folds=4, depth=20, budget=12, resamples=200, weights=[0.0, 0.5, 1.0], tune_on=["R@10"])


def noisy(seed: int, noise: float) -> Channel:
    """A channel that knows the grades, each score off by some noise."""
    dataset = shop()
    items = dataset.items["item_id"].to_numpy()
    grades = {(r["query_id"], r["item_id"]): r["grade"] for r in dataset.judgments.to_pylist()}

    def channel(queries: pa.Table, depth: int) -> Run:
        run: Run = {}
        for query in queries["query_id"].to_pylist():
            rng = np.random.default_rng((seed, int(query[1:])))
            scores = np.array([grades.get((query, item), 0.0) for item in items]) + rng.normal(0, noise, len(items))
            best = np.argsort(-scores)[:depth]
            run[query] = ranking(items[best], scores[best])
        return run

    return channel


CHANNELS = {
    **{BM25: noisy(1, 0.6), KNN: noisy(2, 0.6), ADAPTED: noisy(3, 0.5)},
    **{GENERATIVE: noisy(4, 0.5), GENERATIVE_TEXT: noisy(5, 0.5)},
    **{LINEAR: noisy(6, 0.5), PLACEBO: noisy(7, 0.7), ROCCHIO: noisy(8, 0.4)},
}


def folds(regime: str, channels: dict[str, Channel] = CHANNELS) -> list[FoldRuns]:
    notes = {"chosen": "hierarchical", "candidates": {"cq_sid": {"R@50": 0.5}, "hierarchical": {"R@50": 0.6}}}
    return [
        FoldRuns(split, retrieve(shop(), split, channels, SECTION.depth), notes)
        for split in splits(shop(), regime, 4, 1.0, seed=1)
    ]


def evaluation(simulated: bool) -> dict[str, Any]:
    return {
        "format": EVALUATION_FORMAT,
        "dataset": "shop",
        "simulated": simulated,
        "items": 40,
        "mode": "offline",
        "seed": 1,
        "settings": SECTION.model_dump(mode="json"),
        "regimes": {
            name: analyse(name, folds(name), shop(simulated), SECTION, 1.0, 1) for name in ("unseen", "recurring")
        },
    }
