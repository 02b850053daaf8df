"""What is compared with what: from the runs of all folds to the figures of one regime, as a JSON-ready dict.

Owns the list of systems and of the differences that the tables claim. Arithmetic is in `metrics` and `fusion`, words
and plots in `genrecall.reports`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from genrecall.config.evaluation import EvaluationSection
from genrecall.evaluation.fusion import Weights, found, recall, rrf, tune, union, unique
from genrecall.evaluation.metrics import Evaluator, Interval, bootstrap, bootstrap_ratio
from genrecall.evaluation.protocol import FoldRuns
from genrecall.evaluation.runs import Run
from genrecall.records import Dataset

BM25, KNN, ADAPTED, GENERATIVE, HYBRID = "bm25", "knn", "adapted", "generative", "hybrid"

FUSIONS: tuple[tuple[str, ...], ...] = (
    (BM25, KNN),
    (BM25, ADAPTED),
    (BM25, KNN, GENERATIVE),
    (BM25, ADAPTED, GENERATIVE),
)
"""Fused by RRF, with equal weights and with weights tuned on dev."""

UNIONS: tuple[tuple[str, ...], ...] = (*FUSIONS, (BM25, KNN, ADAPTED))
"""The last shows what any third channel would bring."""

BUDGETS = (30, 60, 120, 200, 300, 400)
"""Of the curve; the claim is made at `evaluation.budget`."""


def join(channels: Sequence[str], weighting: str = "") -> str:
    """The name of a fused system: `bm25+knn+generative:tuned`."""
    return "+".join(channels) + (f":{weighting}" if weighting else "")


def analyse(
    regime: str, folds: Sequence[FoldRuns], dataset: Dataset, section: EvaluationSection, relevant: float, seed: int
) -> dict[str, Any]:
    """Every figure of one regime, over the test queries of all its folds together."""
    evaluator = Evaluator(pa.concat_tables([fold.split.test for fold in folds]), relevant)
    channels = list(folds[0].runs)
    fusions = [f for f in FUSIONS if set(f) <= set(channels)]
    weights = {fold.split.name: tune_fold(fold, fusions, section, relevant) for fold in folds}
    runs = _pooled([_test_runs(fold, fusions, weights[fold.split.name], section) for fold in folds])
    values = {name: evaluator.values(run) for name, run in runs.items()}
    interval = _Intervals(section.resamples, seed)
    return {
        "regime": regime,
        "folds": len(folds),
        "queries": len(evaluator.query_ids),
        "skipped": evaluator.skipped,
        "relevant_items": sum(map(len, evaluator.relevant.values())),
        "weights": weights,
        "systems": {
            name: {measure: interval(v) for measure, v in of.items()} | {"listed": _mean_length(runs[name], evaluator)}
            for name, of in values.items()
        },
        "differences": [
            {"system": one, "against": other, "measure": measure}
            | interval(values[one][measure] - values[other][measure])
            for one, other in claims(channels)
            for measure in evaluator.measures
        ],
        "union": _unions(runs, evaluator, channels, section.budget, interval),
        "curve": _curves(runs, evaluator, channels, section.depth),
        "unique": _uniques(runs, evaluator, channels, section.depth, interval),
        "notes": {fold.split.name: fold.notes for fold in folds},
        "examples": _examples(runs, values, evaluator, dataset, section.examples),
    }


def claims(channels: Sequence[str]) -> list[tuple[str, str]]:
    """(system, against) of every difference in the tables: channels against k-NN, each fusion with against without."""
    pairs = [(ADAPTED, KNN), (GENERATIVE, KNN), (GENERATIVE, ADAPTED)]
    pairs += [(HYBRID, join(fusion, "equal")) for fusion in ((BM25, KNN), (BM25, KNN, GENERATIVE))]
    for weighting in ("equal", "tuned"):
        pairs.append((join((BM25, KNN), weighting), KNN))
        pairs.append((join((BM25, ADAPTED), weighting), join((BM25, KNN), weighting)))
        for dense in (KNN, ADAPTED):
            pairs.append((join((BM25, dense, GENERATIVE), weighting), join((BM25, dense), weighting)))
    return [p for p in pairs if {c for name in p for c in name.split(":")[0].split("+")} <= set(channels)]


def tune_fold(
    fold: FoldRuns, fusions: Sequence[tuple[str, ...]], section: EvaluationSection, relevant: float
) -> dict[str, Weights]:
    """Fused system -> its weights, tuned on the dev part of the split and nothing else of it."""
    dev = Evaluator(fold.split.dev, relevant, tuple(section.tune_on))
    return {
        join(fusion): tune(
            {name: {q: fold.runs[name][q] for q in dev.query_ids} for name in fusion},
            dev,
            section.weights,
            section.rank_constant,
        )
        for fusion in fusions
    }


def _test_runs(
    fold: FoldRuns, fusions: Sequence[tuple[str, ...]], weights: Mapping[str, Weights], section: EvaluationSection
) -> dict[str, Run]:
    """System -> run, for the channels themselves and each fusion, over the test queries of a fold."""
    queries = dict.fromkeys(fold.split.test["query_id"].to_pylist())
    runs = {name: {q: run[q] for q in queries} for name, run in fold.runs.items()}
    fused = {}
    for fusion in fusions:
        parts = {name: runs[name] for name in fusion}
        for weighting, fixed in (("equal", dict.fromkeys(fusion, 1.0)), ("tuned", weights[join(fusion)])):
            fused[join(fusion, weighting)] = rrf(parts, fixed, section.rank_constant, section.depth)
    return runs | fused


def _pooled(folds: Sequence[dict[str, Run]]) -> dict[str, Run]:
    """The runs of all folds as one; a query is tested in one fold only."""
    pooled: dict[str, Run] = {name: {} for name in folds[0]}
    for runs in folds:
        for name, run in runs.items():
            if shared := pooled[name].keys() & run.keys():
                raise ValueError(f"query {sorted(shared)[0]!r} is tested in two folds")
            pooled[name].update(run)
    return pooled


class _Intervals:
    """Values over queries -> {"mean", "low", "high"}, always with the same resamples."""

    def __init__(self, resamples: int, seed: int) -> None:
        self._resamples, self._seed = resamples, seed

    def __call__(self, values: np.ndarray) -> dict[str, float]:
        return _rounded(bootstrap(values, self._resamples, self._seed))

    def ratio(self, numerator: np.ndarray, denominator: np.ndarray) -> dict[str, float]:
        return _rounded(bootstrap_ratio(numerator, denominator, self._resamples, self._seed))


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(value, 5) for name, value in interval._asdict().items()}


def _unions(
    runs: Mapping[str, Run], evaluator: Evaluator, channels: Sequence[str], budget: int, interval: _Intervals
) -> dict[str, Any]:
    """Recall of what the ranker would get of channels sharing the budget, and the difference a third channel makes."""
    combinations = [c for c in UNIONS if set(c) <= set(channels)]
    candidates = {join(c): union([runs[name] for name in c], budget) for c in combinations}
    values = {name: recall(of, evaluator) for name, of in candidates.items()}
    rows = {
        name: interval(of)
        | {
            "found": int(found(candidates[name], evaluator).sum()),
            "distinct": round(float(np.mean([len(candidates[name][q]) for q in evaluator.query_ids])), 1),
        }
        for name, of in values.items()
    }
    differences = [
        {"system": join(c), "against": join(c[:2])} | interval(values[join(c)] - values[join(c[:2])])
        for c in combinations
        if len(c) == 3
    ]
    return {"budget": budget, "systems": rows, "differences": differences}


def _curves(runs: Mapping[str, Run], evaluator: Evaluator, channels: Sequence[str], depth: int) -> dict[str, Any]:
    """Union recall by budget, as far as the depth of the lists allows."""
    return {
        join(c): {
            str(budget): round(float(recall(union([runs[name] for name in c], budget), evaluator).mean()), 5)
            for budget in BUDGETS
            if budget <= depth * len(c)
        }
        for c in UNIONS
        if set(c) <= set(channels)
    }


def _uniques(
    runs: Mapping[str, Run], evaluator: Evaluator, channels: Sequence[str], depth: int, interval: _Intervals
) -> list[dict[str, Any]]:
    """For every trio: the relevant items that one channel alone finds, and their share of what the others miss."""
    rows = []
    for trio in (f for f in UNIONS if len(f) == 3 and set(f) <= set(channels)):
        for name in trio:
            finds, missed = unique({n: runs[n] for n in trio}, name, depth, evaluator)
            counts = {"finds": int(finds.sum()), "missed_by_others": int(missed.sum())}
            rows.append({"channels": join(trio), "channel": name} | counts | interval.ratio(finds, missed))
    return rows


def _mean_length(run: Run, evaluator: Evaluator) -> float:
    return round(float(np.mean([len(run[q].item_ids) for q in evaluator.query_ids])), 1)


def _examples(
    runs: Mapping[str, Run],
    values: Mapping[str, dict[str, np.ndarray]],
    evaluator: Evaluator,
    dataset: Dataset,
    count: int,
) -> dict[str, list[dict[str, Any]]]:
    """The queries where the generative channel changes R@50 of equal-weight RRF most, with what it brought and cost."""
    with_it, without = join((BM25, KNN, GENERATIVE), "equal"), join((BM25, KNN), "equal")
    if with_it not in runs:
        return {"helps": [], "hurts": []}
    title = dict(zip(dataset.items["item_id"].to_pylist(), dataset.items["title"].to_pylist(), strict=True))
    text = dict(zip(dataset.queries["query_id"].to_pylist(), dataset.queries["text"].to_pylist(), strict=True))
    change = values[with_it]["R@50"] - values[without]["R@50"]

    def example(row: int) -> dict[str, Any]:
        query = evaluator.query_ids[row]
        new, old = (set(runs[name][query].item_ids[:50]) & evaluator.relevant[query] for name in (with_it, without))
        return {
            "query": text[query],
            "relevant": len(evaluator.relevant[query]),
            "R@50": {name: round(float(values[name]["R@50"][row]), 3) for name in (without, with_it)},
            "gained": [title[item] for item in sorted(new - old)],
            "lost": [title[item] for item in sorted(old - new)],
            "generative_top": [title[item] for item in runs[GENERATIVE][query].item_ids[:3]],
        }

    order = np.argsort(-change, kind="stable")
    helps = [example(row) for row in order[:count] if change[row] > 0]
    hurts = [example(row) for row in order[::-1][:count] if change[row] < 0]
    return {"helps": helps, "hurts": hurts}
