"""Measures of a run against judgments by `ir-measures`, a value a query, and bootstrap intervals over queries.

Relevant means grade >= `relevant`; nDCG uses the grades themselves. A query without a single relevant item says
nothing about recall: it is left out, and counted by whoever reports.
"""

from __future__ import annotations

from typing import NamedTuple

import ir_measures
import numpy as np
import pyarrow as pa

from genrecall.evaluation.runs import Run

GRADE_SCALE = 1000  # TREC judgments are integers; nDCG's linear gain does not feel the scale

MEASURES = ("R@10", "R@50", "R@200", "nDCG@10", "Success@10", "Success@50")
"""What every table shows. Success@k is the hit rate: is there a relevant item among the first k."""


class Interval(NamedTuple):
    """A mean over queries and its bootstrap interval."""

    mean: float
    low: float
    high: float


class Evaluator:
    """The judgments of some queries, ready to measure many runs.

    Attributes:
        query_ids: the queries with at least one relevant item, sorted; every array of values is in this order.
        relevant: query_id -> its relevant items.
        skipped: number of judged queries without a relevant item.
    """

    def __init__(self, judgments: pa.Table, relevant: float, measures: tuple[str, ...] = MEASURES) -> None:
        """judgments: records.JUDGMENTS. relevant: the least grade that counts as relevant."""
        grades: dict[str, dict[str, float]] = {}
        for row in judgments.to_pylist():
            grades.setdefault(row["query_id"], {})[row["item_id"]] = row["grade"]
        # float32 grades against a configured double: 0.1 must count as 0.1
        least = relevant - 1e-6
        self.relevant = {q: {i for i, g in of.items() if g >= least} for q, of in grades.items()}
        self.relevant = {q: items for q, items in self.relevant.items() if items}
        self.query_ids = sorted(self.relevant)
        self.skipped = len(grades) - len(self.query_ids)
        self.measures = measures
        qrels = {q: {i: round(g * GRADE_SCALE) for i, g in grades[q].items()} for q in self.query_ids}
        self._measures = {_parse(name, max(1, round(relevant * GRADE_SCALE))): name for name in measures}
        self._depth = max(m.params["cutoff"] for m in self._measures)
        self._evaluator = ir_measures.evaluator(list(self._measures), qrels)
        self._row = {q: n for n, q in enumerate(self.query_ids)}

    def values(self, run: Run) -> dict[str, np.ndarray]:
        """measure -> float64 [queries], in the order of `query_ids`. Every judged query must be in the run."""
        if missing := [q for q in self.query_ids if q not in run]:
            raise ValueError(f"the run has no ranking for query {missing[0]!r} and {len(missing) - 1} more")
        out = {name: np.zeros(len(self.query_ids)) for name in self.measures}
        # Descending places stand for scores: the order of a ranking decides, and ties in its scores do not reopen it.
        places = {q: {item: float(-n) for n, item in enumerate(run[q].item_ids[: self._depth])} for q in self.query_ids}
        for metric in self._evaluator.iter_calc(places):
            out[self._measures[metric.measure]][self._row[metric.query_id]] = metric.value
        return out


def _parse(name: str, relevant: int) -> ir_measures.measures.Measure:
    measure = ir_measures.parse_measure(name)
    return measure if "nDCG" in name else measure(rel=relevant)


def bootstrap(values: np.ndarray, resamples: int, seed: int) -> Interval:
    """Mean of `values` (float [queries]) with its 95% percentile interval over resampled queries.

    For a paired comparison give the differences query by query. Efron & Tibshirani 1993, chapter 13; the same seed
    gives the same resamples, so figures of one table are comparable.
    """
    return bootstrap_ratio(values, np.ones(len(values)), resamples, seed)


def bootstrap_ratio(numerator: np.ndarray, denominator: np.ndarray, resamples: int, seed: int) -> Interval:
    """sum(numerator) / sum(denominator) with its 95% interval, queries resampled together; 0 for an empty sum."""
    if not len(numerator) or not denominator.any():
        return Interval(0.0, 0.0, 0.0)
    rng = np.random.default_rng(seed)
    ratios = np.empty(resamples)
    block = max(1, 4_000_000 // len(numerator))  # bounds memory at 32 MB whatever the number of queries
    for start in range(0, resamples, block):
        rows = rng.integers(0, len(numerator), (min(block, resamples - start), len(numerator)))
        bottom = denominator[rows].sum(axis=1)
        ratios[start : start + len(rows)] = numerator[rows].sum(axis=1) / np.where(bottom == 0, 1, bottom)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(float(numerator.sum() / denominator.sum()), float(low), float(high))
