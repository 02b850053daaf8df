"""How a generator does on the dev queries of a split: what chooses between two codebooks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from genrecall.config import Config
from genrecall.evaluation.collection import Collection
from genrecall.evaluation.fusion import recall, rrf, union
from genrecall.evaluation.metrics import Evaluator
from genrecall.evaluation.protocol import retrieve
from genrecall.evaluation.results import BM25, GENERATIVE, KNN
from genrecall.records import Dataset, Split

if TYPE_CHECKING:
    from genrecall.decoding import Generator

Score = Callable[["Generator", list[str], np.ndarray], dict[str, float]]
"""(generator, item ids, codes int32 [n, 3]) -> figures on the dev queries; {} where there are none."""


def score_dev(dataset: Dataset, split: Split, config: Config) -> Score:
    """A function that measures a generator on `split.dev`, never on `split.test`.

    Its figures: R@10, R@50, R@200 and nDCG@10 of the generative channel alone, items ordered within their SIDs;
    "fused R@50" and "fused nDCG@10" of equal-weight RRF with BM25 and k-NN; "union", the recall of the three at
    `evaluation.budget`.
    """
    section = config.evaluation
    evaluator = Evaluator(split.dev, config.data.relevant, ("R@10", "R@50", "R@200", "nDCG@10"))
    dev = Split(split.name, split.train, split.dev, split.test.slice(0, 0))

    @cache
    def ready() -> Collection:
        """Made once for all candidates, and only where there is something to score."""
        return Collection.of(dataset, config)

    def score(generator: Generator, item_ids: list[str], codes: np.ndarray) -> dict[str, float]:
        if not evaluator.query_ids:
            return {}
        collection = ready()
        plain = collection.channels(collection.vectors)
        generative = collection.generative(generator.generate, item_ids, codes, collection.vectors)
        channels = {BM25: plain[BM25], KNN: plain[KNN], GENERATIVE: generative[GENERATIVE]}
        lists = {name: evaluator.lists(run) for name, run in retrieve(dataset, dev, channels, section.depth).items()}
        equal = dict.fromkeys(lists, 1.0)
        fused_lists = rrf(lists, equal, section.rank_constant, section.depth)
        alone, fused = (evaluator.measure(evaluator.gains(of)) for of in (lists[GENERATIVE], fused_lists))
        together = recall(union(list(lists.values()), section.budget), evaluator)
        return {
            **{name: float(values.mean()) for name, values in alone.items()},
            "fused R@50": float(fused["R@50"].mean()),
            "fused nDCG@10": float(fused["nDCG@10"].mean()),
            "union": float(together.mean()),
        }

    return score
