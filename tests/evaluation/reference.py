"""Fusion and measures written plainly, a query at a time, over ids: what the arrays of the evaluation must equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import ir_measures
import numpy as np
import pyarrow as pa

from genrecall.evaluation.fusion import Weights, shares
from genrecall.evaluation.metrics import GRADE_SCALE
from genrecall.evaluation.runs import Ranking, Run


def values(judgments: pa.Table, query_ids: list[str], relevant: float, run: Run, names: list[str]) -> np.ndarray:
    """float64 [measures, queries] by ir-measures, which is trec_eval's code."""
    qrels: dict[str, dict[str, int]] = {}
    for row in judgments.to_pylist():
        if row["query_id"] in query_ids:
            qrels.setdefault(row["query_id"], {})[row["item_id"]] = round(row["grade"] * GRADE_SCALE)
    parsed = [ir_measures.parse_measure(name) for name in names]
    parsed = [m if "nDCG" in str(m) else m(rel=round(relevant * GRADE_SCALE)) for m in parsed]
    places = {q: {item: float(-n) for n, item in enumerate(run[q].item_ids)} for q in query_ids}
    out = np.zeros((len(names), len(query_ids)))
    for metric in ir_measures.iter_calc(parsed, qrels, places):
        out[parsed.index(metric.measure), query_ids.index(metric.query_id)] = metric.value
    return out


def rrf(runs: Mapping[str, Run], weights: Mapping[str, float], rank_constant: int, depth: int) -> Run:
    used = [(runs[name], weight) for name, weight in weights.items() if weight > 0]
    out: Run = {}
    for query_id in next(iter(runs.values())):
        scores: dict[str, float] = {}
        for run, weight in used:
            for place, item in enumerate(run[query_id].item_ids, start=1):
                scores[item] = scores.get(item, 0.0) + weight / (rank_constant + place)
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:depth]  # sorted is stable: ties keep their order
        out[query_id] = Ranking(np.array(best, dtype=object), np.array([scores[i] for i in best], dtype=np.float32))
    return out


def tune(
    runs: Mapping[str, Run],
    judgments: pa.Table,
    query_ids: list[str],
    relevant: float,
    names: list[str],
    grid: Sequence[float],
    rank_constant: int,
) -> Weights:
    points = [point for point in product(sorted(grid), repeat=len(runs)) if max(point) == 1.0]
    deepest = max(len(r.item_ids) for run in runs.values() for r in run.values())
    found = []
    for point in points:
        fused = rrf(runs, dict(zip(runs, point, strict=True)), rank_constant, deepest)
        found.append(values(judgments, query_ids, relevant, fused, names).mean(axis=0))
    best = found[int(np.argmax([v.mean() for v in found]))]
    near = []
    for point, value in zip(points, found, strict=True):
        behind = best - value
        if behind.mean() <= behind.std(ddof=1) / np.sqrt(len(behind)):
            near.append((sum(1 - w for w in point), behind.mean(), point))
    return dict(zip(runs, min(near)[2], strict=True))


def union(runs: Sequence[Run], budget: int) -> dict[str, set[str]]:
    dealt = shares(budget, len(runs))
    return {q: {i for run, n in zip(runs, dealt, strict=True) for i in run[q].item_ids[:n]} for q in runs[0]}


def bootstrap(values: np.ndarray, resamples: int, seed: int) -> tuple[float, float, float]:
    rows = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(values[rows].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
