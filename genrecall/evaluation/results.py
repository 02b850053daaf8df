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
from genrecall.evaluation.fusion import Weights, rrf, tune, unions, unique
from genrecall.evaluation.metrics import Evaluator, Interval, Resamples
from genrecall.evaluation.protocol import FoldRuns
from genrecall.evaluation.runs import Run
from genrecall.records import Dataset

BM25, KNN, ADAPTED, GENERATIVE, HYBRID = "bm25", "knn", "adapted", "generative", "hybrid"
GENERATIVE_TEXT = "generative_text"  # the same SIDs, their items in the order of BM25 alone: no vector in the index
LINEAR = "linear"  # control without SIDs: one weighted sum of cosine and BM25 for every item
ROCCHIO = "rocchio"  # control where queries recur: the tuned query moved to the items known to be wanted
BOOSTED = "boosted"  # control where items are wanted again: BM25, items raised by how much they were wanted before
PLACEBO = "placebo"  # a second tuned k-NN, on other vectors: what any third list would bring

BASE = (BM25, ADAPTED)
"""Fused by RRF, what a shop can have without SIDs from the same data: the system to beat."""

FUSIONS: tuple[tuple[str, ...], ...] = (
    BASE,
    (BM25, KNN),
    (BM25, ROCCHIO),
    (BOOSTED, ROCCHIO),
    (*BASE, GENERATIVE),
    (*BASE, GENERATIVE_TEXT),
    (*BASE, LINEAR),
    (*BASE, PLACEBO),
    (BM25, KNN, GENERATIVE),
    (BM25, ROCCHIO, GENERATIVE),
    (BOOSTED, ROCCHIO, GENERATIVE),
)
"""Fused by RRF, with equal weights and with weights tuned on dev."""

UNIONS: tuple[tuple[str, ...], ...] = (
    BASE,
    (BM25, KNN),
    (BM25, ROCCHIO),
    (GENERATIVE,),
    (GENERATIVE_TEXT,),
    (LINEAR,),
    (*BASE, GENERATIVE),
    (*BASE, PLACEBO),
    (BM25, KNN, GENERATIVE),
    (BM25, ROCCHIO, GENERATIVE),
)

BUDGETS = (30, 60, 120, 200, 300, 400)
"""Of the curve; the claim is made at `evaluation.budget`."""


def join(channels: Sequence[str], weighting: str = "") -> str:
    """The name of a fused system: `bm25+knn+generative:tuned`."""
    return "+".join(channels) + (f":{weighting}" if weighting else "")


def claims(channels: Sequence[str]) -> list[tuple[str, str]]:
    """(system, against) of every difference in the tables that is not of a union.

    The channel alone against fusion and against the controls; then each fusion with a third list against without.
    """
    base = join(BASE, "equal")
    alone = [GENERATIVE, GENERATIVE_TEXT, LINEAR]
    pairs = [(name, base) for name in alone]
    pairs += [(GENERATIVE, LINEAR), (GENERATIVE_TEXT, LINEAR), (GENERATIVE, join((BM25, ROCCHIO), "equal"))]
    pairs += [(GENERATIVE, KNN), (GENERATIVE, ADAPTED), (ADAPTED, KNN), (ROCCHIO, ADAPTED)]
    pairs += [(BOOSTED, base), (GENERATIVE, BOOSTED), (GENERATIVE, join((BOOSTED, ROCCHIO), "equal"))]
    pairs += [(HYBRID, join(fusion, "equal")) for fusion in (BASE, (*BASE, GENERATIVE))]
    for weighting in ("equal", "tuned"):
        for fusion in FUSIONS:
            if len(fusion) == 3:
                pairs.append((join(fusion, weighting), join(fusion[:2], weighting)))
        for control in (PLACEBO, LINEAR):
            pairs.append((join((*BASE, GENERATIVE), weighting), join((*BASE, control), weighting)))
        pairs.append((join(BASE, weighting), join((BM25, KNN), weighting)))
        pairs += [(join((text, ROCCHIO), weighting), join(BASE, weighting)) for text in (BM25, BOOSTED)]
        pairs.append((join((BM25, KNN), weighting), KNN))
    return [pair for pair in pairs if all(set(parts(name)) <= set(channels) for name in pair)]


def union_claims(combinations: Sequence[tuple[str, ...]]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(channels, against): one channel with the whole budget against two that share it; three against two."""
    pairs: list[tuple[tuple[str, ...], tuple[str, ...]]]
    pairs = [((name,), BASE) for name in (GENERATIVE, GENERATIVE_TEXT, LINEAR)]
    pairs += [((GENERATIVE,), (LINEAR,)), ((GENERATIVE,), (BM25, ROCCHIO))]
    pairs += [(c, c[:2]) for c in UNIONS if len(c) == 3]
    return [(one, other) for one, other in pairs if one in combinations and other in combinations]


def parts(system: str) -> list[str]:
    """The channels of a system: `bm25+knn:tuned` -> bm25, knn."""
    return system.partition(":")[0].split("+")


def analyse(
    regime: str, folds: Sequence[FoldRuns], dataset: Dataset, section: EvaluationSection, relevant: float, seed: int
) -> dict[str, Any]:
    """Every figure of one regime, over the test queries of all its folds together."""
    evaluator = Evaluator(pa.concat_tables([fold.split.test for fold in folds]), relevant)
    pooled = _pooled(folds)
    channels = list(pooled)
    whole = {name: evaluator.lists(run) for name, run in pooled.items()}
    lists = {name: of[:, : section.depth] for name, of in whole.items()}
    fusions = [f for f in FUSIONS if set(f) <= set(channels)]
    weights = {fold.split.name: tune_fold(fold, fusions, section, relevant) for fold in folds}
    lists |= _fused(folds, lists, fusions, weights, evaluator, section)
    values = {name: evaluator.measure(evaluator.gains(of)) for name, of in lists.items()}
    resamples = Resamples(len(evaluator.query_ids), section.resamples, seed)
    union_of, curves = _unions(whole, evaluator, section.budget, resamples)
    return {
        "regime": regime,
        "folds": len(folds),
        "queries": len(evaluator.query_ids),
        "skipped": evaluator.skipped,
        "relevant_items": int(evaluator.wanted.sum()),
        "weights": weights,
        "systems": _systems(lists, values, resamples),
        "differences": _differences(claims(channels), values, resamples),
        "union": union_of,
        "curve": curves,
        "unique": _uniques(lists, evaluator, channels, section.depth, resamples),
        "notes": {fold.split.name: fold.notes for fold in folds},
        "examples": _examples(lists, values, evaluator, dataset, section.examples),
    }


def tune_fold(
    fold: FoldRuns, fusions: Sequence[tuple[str, ...]], section: EvaluationSection, relevant: float
) -> dict[str, Weights]:
    """Fused system -> its weights, tuned on the dev part of the split and nothing else of it."""
    dev = Evaluator(fold.split.dev, relevant, tuple(section.tune_on))
    lists = {
        name: dev.lists(fold.runs[name])[:, : section.depth] for name in dict.fromkeys(c for f in fusions for c in f)
    }
    return {
        join(fusion): tune({name: lists[name] for name in fusion}, dev, section.weights, section.rank_constant)
        for fusion in fusions
    }


def _pooled(folds: Sequence[FoldRuns]) -> dict[str, Run]:
    """Channel -> its run over the test queries of all folds; a query is tested in one fold only."""
    pooled: dict[str, Run] = {name: {} for name in folds[0].runs}
    for fold in folds:
        queries = dict.fromkeys(fold.split.test["query_id"].to_pylist())
        for name, run in fold.runs.items():
            if shared := pooled[name].keys() & queries.keys():
                raise ValueError(f"query {sorted(shared)[0]!r} is tested in two folds")
            pooled[name].update((query, run[query]) for query in queries)
    return pooled


def _fused(
    folds: Sequence[FoldRuns],
    lists: Mapping[str, np.ndarray],
    fusions: Sequence[tuple[str, ...]],
    weights: Mapping[str, Mapping[str, Weights]],
    evaluator: Evaluator,
    section: EvaluationSection,
) -> dict[str, np.ndarray]:
    """Fused system -> its lists, int32 [queries, depth]; each query with the weights of its fold."""
    row = {query: n for n, query in enumerate(evaluator.query_ids)}
    tested = [[row[q] for q in set(fold.split.test["query_id"].to_pylist()) & row.keys()] for fold in folds]
    out = {}
    for fusion in fusions:
        equal = dict.fromkeys(fusion, 1.0)
        out[join(fusion, "equal")] = rrf(lists, equal, section.rank_constant, section.depth)
        tuned = np.full((len(row), section.depth), -1, dtype=np.int32)
        for fold, rows in zip(folds, tested, strict=True):
            own = {name: lists[name][rows] for name in fusion}
            fused = rrf(own, weights[fold.split.name][join(fusion)], section.rank_constant, section.depth)
            tuned[rows, : fused.shape[1]] = fused
        out[join(fusion, "tuned")] = tuned
    return out


def _systems(
    lists: Mapping[str, np.ndarray], values: Mapping[str, Mapping[str, np.ndarray]], resamples: Resamples
) -> dict[str, dict[str, Any]]:
    """System -> measure -> its interval, and the mean length of its lists."""
    cells = [(name, measure) for name, of in values.items() for measure in of]
    means = resamples.means(np.stack([values[name][measure] for name, measure in cells], axis=1))
    rows: dict[str, dict[str, Any]] = {name: {} for name in values}
    for (name, measure), interval in zip(cells, means, strict=True):
        rows[name][measure] = _rounded(interval)
    for name, row in rows.items():
        row["listed"] = round(float((lists[name] >= 0).sum(axis=1).mean()), 1)
    return rows


def _differences(
    pairs: Sequence[tuple[str, str]], values: Mapping[str, Mapping[str, np.ndarray]], resamples: Resamples
) -> list[dict[str, Any]]:
    cells = [(one, other, measure) for one, other in pairs for measure in values[one]]
    if not cells:
        return []
    apart = [values[one][measure] - values[other][measure] for one, other, measure in cells]
    return [
        {"system": one, "against": other, "measure": measure} | _rounded(interval)
        for (one, other, measure), interval in zip(cells, resamples.means(np.stack(apart, axis=1)), strict=True)
    ]


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(value, 5) for name, value in interval._asdict().items()}


def _unions(
    lists: Mapping[str, np.ndarray], evaluator: Evaluator, budget: int, resamples: Resamples
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Recall of what the ranker would get of channels sharing the budget, with the differences between them; and by
    budget, as far as the lists reach.
    """
    combinations = [c for c in UNIONS if set(c) <= set(lists)]
    rows: dict[str, dict[str, Any]] = {}
    values, curves = {}, {}
    for combination in combinations:
        name, own = join(combination), [lists[channel] for channel in combination]
        reached = [b for b in BUDGETS if b <= min(of.shape[1] for of in own) * len(own)]
        (found, distinct), *others = unions(own, [budget, *reached], evaluator)
        values[combination] = found / evaluator.wanted
        rows[name] = {"found": int(found.sum()), "distinct": round(float(distinct.mean()), 1)}
        recalls = (float((at / evaluator.wanted).mean()) for at, _ in others)
        curves[name] = {str(b): round(recall, 5) for b, recall in zip(reached, recalls, strict=True)}
    means = resamples.means(np.stack(list(values.values()), axis=1))
    rows = {name: row | _rounded(of) for (name, row), of in zip(rows.items(), means, strict=True)}
    differences = [
        {"system": join(one), "against": join(other)}
        | _rounded(resamples.means((values[one] - values[other])[:, None])[0])
        for one, other in union_claims(combinations)
    ]
    return {"budget": budget, "systems": rows, "differences": differences}, curves


def _uniques(
    lists: Mapping[str, np.ndarray], evaluator: Evaluator, channels: Sequence[str], depth: int, resamples: Resamples
) -> list[dict[str, Any]]:
    """For every trio: the relevant items that one channel alone finds, and their share of what the others miss."""
    rows = []
    for trio in (f for f in UNIONS if len(f) == 3 and set(f) <= set(channels)):
        for name in trio:
            finds, missed = unique({n: lists[n] for n in trio}, name, depth, evaluator)
            counts = {"finds": int(finds.sum()), "missed_by_others": int(missed.sum())}
            interval = resamples.ratios(finds[:, None], missed[:, None])[0]
            rows.append({"channels": join(trio), "channel": name} | counts | _rounded(interval))
    return rows


def _examples(
    lists: Mapping[str, np.ndarray],
    values: Mapping[str, Mapping[str, np.ndarray]],
    evaluator: Evaluator,
    dataset: Dataset,
    count: int,
) -> dict[str, list[dict[str, Any]]]:
    """The queries where the generative channel changes R@50 of equal-weight RRF most, with what it brought and cost."""
    with_it, without = join((*BASE, GENERATIVE), "equal"), join(BASE, "equal")
    if with_it not in lists:
        return {"helps": [], "hurts": []}
    title = dict(zip(dataset.items["item_id"].to_pylist(), dataset.items["title"].to_pylist(), strict=True))
    text = dict(zip(dataset.queries["query_id"].to_pylist(), dataset.queries["text"].to_pylist(), strict=True))
    change = values[with_it]["R@50"] - values[without]["R@50"]

    def example(row: int) -> dict[str, Any]:
        query = evaluator.query_ids[row]
        new, old = (
            set(evaluator.item_ids(lists[name][row, :50])) & evaluator.relevant[query] for name in (with_it, without)
        )
        return {
            "query": text[query],
            "relevant": len(evaluator.relevant[query]),
            "R@50": {name: round(float(values[name]["R@50"][row]), 3) for name in (without, with_it)},
            "gained": [title[item] for item in sorted(new - old)],
            "lost": [title[item] for item in sorted(old - new)],
            "generative_top": [title[item] for item in evaluator.item_ids(lists[GENERATIVE][row, :3])],
        }

    order = np.argsort(-change, kind="stable")
    helps = [example(row) for row in order[:count] if change[row] > 0]
    hurts = [example(row) for row in order[::-1][:count] if change[row] < 0]
    return {"helps": helps, "hurts": hurts}
