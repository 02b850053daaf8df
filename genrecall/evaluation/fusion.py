"""Putting channels together: weighted reciprocal rank fusion, its weights from dev queries, and the union at equal
budget.

Pure functions over runs. Which systems are compared is in `results`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from genrecall.evaluation.metrics import Evaluator
from genrecall.evaluation.runs import Ranking, Run

Weights = dict[str, float]


def rrf(runs: Mapping[str, Run], weights: Mapping[str, float], rank_constant: int, depth: int) -> Run:
    """score(item) = sum over channels of weight / (rank_constant + rank), rank from 1 (Cormack et al., SIGIR 2009).

    Channels of weight 0 add neither score nor items. Ties go to the item seen first, channels in the order of
    `weights`.
    """
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


def tune(runs: Mapping[str, Run], dev: Evaluator, grid: Sequence[float], rank_constant: int) -> Weights:
    """The weights for `rrf` that do best on the dev queries, careful where these are few.

    Every point of the grid whose largest weight is 1 is tried; the objective is the mean of the evaluator's measures.
    Among the points within one standard error of the best one (of the difference, query by query) the one nearest to
    equal weights is taken: a few dozen dev queries cannot tell more than that apart (the one-standard-error rule,
    Breiman et al. 1984).
    """
    names = list(runs)
    if not dev.query_ids:
        return dict.fromkeys(names, 1.0)
    top = max(grid)
    points = [tuple(w / top for w in p) for p in product(sorted(set(grid)), repeat=len(names)) if max(p) == top]
    deepest = max(len(r.item_ids) for run in runs.values() for r in run.values())
    values = []
    for point in points:
        fused = rrf(runs, dict(zip(names, point, strict=True)), rank_constant, deepest)
        values.append(np.mean(list(dev.values(fused).values()), axis=0))
    best = values[int(np.argmax([v.mean() for v in values]))]
    near = []
    for point, value in zip(points, values, strict=True):
        behind = best - value
        error = behind.std(ddof=1) / np.sqrt(len(behind)) if len(behind) > 1 else np.inf
        if behind.mean() <= error:
            near.append((sum(1 - w for w in point), behind.mean(), point))
    return dict(zip(names, min(near)[2], strict=True))


def shares(budget: int, channels: int) -> list[int]:
    """`budget` candidates dealt out as equally as whole numbers allow, the first channels taking what is left over."""
    each, left = divmod(budget, channels)
    return [each + (n < left) for n in range(channels)]


def union(runs: Sequence[Run], budget: int) -> dict[str, set[str]]:
    """query_id -> the candidates that reach the ranker when the channels share `budget` equally."""
    return {
        query_id: {
            item
            for run, share in zip(runs, shares(budget, len(runs)), strict=True)
            for item in run[query_id].item_ids[:share]
        }
        for query_id in runs[0]
    }


def found(candidates: Mapping[str, set[str]], evaluator: Evaluator) -> np.ndarray:
    """float64 [queries] relevant items among the candidates of each judged query."""
    return np.array([len(evaluator.relevant[q] & candidates[q]) for q in evaluator.query_ids], dtype=float)


def recall(candidates: Mapping[str, set[str]], evaluator: Evaluator) -> np.ndarray:
    """float64 [queries] share of each judged query's relevant items among its candidates."""
    return found(candidates, evaluator) / np.array(
        [len(evaluator.relevant[q]) for q in evaluator.query_ids], dtype=float
    )


def unique(runs: Mapping[str, Run], name: str, depth: int, evaluator: Evaluator) -> tuple[np.ndarray, np.ndarray]:
    """(finds, missed), float64 [queries] each: what channel `name` finds of what all the others miss, at `depth`."""
    others = union([run for other, run in runs.items() if other != name], depth * (len(runs) - 1))
    mine = union([runs[name]], depth)
    missed = {q: evaluator.relevant[q] - others[q] for q in evaluator.query_ids}
    finds = np.array([len(missed[q] & mine[q]) for q in evaluator.query_ids], dtype=float)
    return finds, np.array([len(missed[q]) for q in evaluator.query_ids], dtype=float)
