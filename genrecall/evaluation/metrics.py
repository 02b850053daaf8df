"""Measures of ranked lists against judgments, a value a query, and bootstrap intervals over queries.

The measures are those of `ir-measures` (trec_eval), computed on arrays, for many thousands of queries and dozens of
systems; tests hold the two equal. Relevant means grade >= `relevant`; nDCG uses the grades themselves. A query without
a single relevant item says nothing about recall: it is left out, and counted by whoever reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from genrecall.evaluation.runs import Run

GRADE_SCALE = 1000  # TREC judgments are integers; nDCG's linear gain does not feel the scale

MEASURES = ("R@10", "R@50", "R@200", "nDCG@10", "Success@10", "Success@50")
"""What every table shows. Success@k is the hit rate: is there a relevant item among the first k."""

_CELLS = 500_000  # of a table from queries and items to numbers: it stays in the cache of a core


class Interval(NamedTuple):
    """A mean over queries and its bootstrap interval."""

    mean: float
    low: float
    high: float


class Evaluator:
    """The judgments of some queries, ready to measure many lists.

    Items are numbered as they come, the judged ones first: `lists` makes of a run what `gains`, and `fusion`, compute
    on.

    Attributes:
        query_ids: the queries with at least one relevant item, sorted; every array of values is in this order.
        relevant: query_id -> its relevant items.
        wanted: float64 [queries], the number of relevant items.
        deepest: the last place that a measure looks at.
        skipped: number of judged queries without a relevant item.
    """

    def __init__(self, judgments: pa.Table, relevant: float, measures: tuple[str, ...] = MEASURES) -> None:
        """judgments: records.JUDGMENTS. relevant: the least grade that counts as relevant.

        Raises ValueError for a measure that is not R@k, nDCG@k or Success@k.
        """
        grades: dict[str, dict[str, float]] = {}
        for row in judgments.to_pylist():
            grades.setdefault(row["query_id"], {})[row["item_id"]] = row["grade"]
        # float32 grades against a configured double: 0.1 must count as 0.1
        least = relevant - 1e-6
        self.relevant = {q: {i for i, g in of.items() if g >= least} for q, of in grades.items()}
        self.relevant = {q: items for q, items in self.relevant.items() if items}
        self.query_ids = sorted(self.relevant)
        self.skipped = len(grades) - len(self.query_ids)
        self.measures = {name: _parse(name) for name in measures}
        self.deepest = max(cutoff for _, cutoff in self.measures.values())
        self._least = max(1, round(relevant * GRADE_SCALE))
        self._item: dict[str, int] = {}
        lengths = np.array([len(grades[q]) for q in self.query_ids], dtype=np.int64)
        self._judged = padded([self._number(item) for q in self.query_ids for item in grades[q]], lengths)
        self._gains = padded([round(g * GRADE_SCALE) for q in self.query_ids for g in grades[q].values()], lengths)
        self.wanted = self.relevant_at(self._gains).sum(axis=1).astype(float)

    def lists(self, run: Run) -> np.ndarray:
        """int32 [queries, longest]: the items of each judged query as numbers, best first, -1 after the last.

        Every judged query must be in the run.
        """
        if missing := [q for q in self.query_ids if q not in run]:
            raise ValueError(f"the run has no ranking for query {missing[0]!r} and {len(missing) - 1} more")
        listed = [run[q].item_ids for q in self.query_ids]
        encoded = pa.array(np.concatenate([np.empty(0, dtype=object), *listed]), pa.string()).dictionary_encode()
        numbers = np.array(list(map(self._number, encoded.dictionary.to_pylist())), dtype=np.int32)
        return padded(numbers[encoded.indices.to_numpy()], np.array(list(map(len, listed)), dtype=np.int64))

    def gains(self, lists: np.ndarray) -> np.ndarray:
        """int32 of the same shape: the grade of each item for its query, times `GRADE_SCALE`; 0 where not judged."""
        found = lookup(self._judged, self._gains, lists)
        return np.where((lists >= 0) & (found > 0), found, 0)

    def measure(self, gains: np.ndarray) -> dict[str, np.ndarray]:
        """measure -> float64 [queries], of lists whose items have these gains, int32 [queries, places]."""
        relevant = self.relevant_at(gains)
        out = {}
        for name, (kind, cutoff) in self.measures.items():
            if kind == "nDCG":
                out[name] = _dcg(gains[:, :cutoff]) / _dcg(-np.sort(-self._gains, axis=1)[:, :cutoff])
            elif kind == "R":
                out[name] = relevant[:, :cutoff].sum(axis=1) / self.wanted
            else:
                out[name] = relevant[:, :cutoff].any(axis=1).astype(float)
        return out

    def relevant_at(self, gains: np.ndarray) -> np.ndarray:
        """bool of the same shape: where an item is relevant."""
        return gains >= self._least

    def found(self, lists: np.ndarray) -> np.ndarray:
        """float64 [queries]: relevant items in the whole of each list."""
        return self.relevant_at(self.gains(lists)).sum(axis=1).astype(float)

    def values(self, run: Run) -> dict[str, np.ndarray]:
        """measure -> float64 [queries]. The order of a ranking decides; ties in its scores do not reopen it."""
        return self.measure(self.gains(self.lists(run)))

    def item_ids(self, numbers: np.ndarray) -> list[str]:
        """What `lists` numbered so, ends of lists left out."""
        names = list(self._item)
        return [names[number] for number in numbers.tolist() if number >= 0]

    def _number(self, item_id: str) -> int:
        return self._item.setdefault(item_id, len(self._item))


def padded(numbers: ArrayLike, lengths: np.ndarray) -> np.ndarray:
    """int32 [rows, longest]: `numbers` cut into rows of these lengths (int64), -1 after the end of each."""
    out = np.full((len(lengths), lengths.max(initial=0)), -1, dtype=np.int32)
    out[np.arange(out.shape[1]) < lengths[:, None]] = numbers
    return out


def lookup(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int32 of the shape of `wanted`: the value that each row has for a key, 0 for one that it lacks.

    keys, values: int32 [rows, m], a key once a row, -1: none. wanted: int32 [rows, n].
    """
    width = max(keys.max(initial=-1), wanted.max(initial=-1)) + 2  # the last column stands for -1
    out = np.empty(wanted.shape, dtype=np.int32)
    table: np.ndarray | None = None
    for rows in blocks(len(keys), _CELLS // width):
        if table is None:
            table = np.zeros((rows.stop - rows.start, width), dtype=np.int32)
        at = np.arange(rows.stop - rows.start)[:, None]
        table[at, keys[rows]] = values[rows]
        table[:, -1] = 0
        out[rows] = table[at, wanted[rows]]
        table[at, keys[rows]] = 0
    return out


def blocks(rows: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` (at least 1) rows."""
    for start in range(0, rows, max(1, size)):
        yield slice(start, min(rows, start + max(1, size)))


def _dcg(gains: np.ndarray) -> np.ndarray:
    """float64 [queries]: gain / log2(1 + rank), summed in the order of ranks, as trec_eval does."""
    places = np.maximum(gains, 0) / np.log2(np.arange(2, gains.shape[1] + 2))
    return np.cumsum(places, axis=1)[:, -1] if places.shape[1] else np.zeros(len(places))


def _parse(name: str) -> tuple[str, int]:
    if not (found := re.fullmatch(r"(R|nDCG|Success)@([1-9]\d*)", name)):
        raise ValueError(f"measure {name!r}: R@k, nDCG@k or Success@k, such as R@50")
    return found[1], int(found[2])


class Resamples:
    """Samples of queries, drawn with replacement: as often as each query is in each.

    Every interval of a table comes from the same ones, so its figures are comparable. The mean of many columns of
    values over every sample is one product of matrices.
    """

    def __init__(self, queries: int, resamples: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._counts = np.zeros((resamples, queries), dtype=np.uint8)  # of draws with mean 1: never near 255
        for rows in self._blocks() if queries else ():
            count = rows.stop - rows.start
            drawn = rng.integers(0, queries, (count, queries)) + queries * np.arange(count)[:, None]
            self._counts[rows] = np.bincount(drawn.ravel(), minlength=count * queries).reshape(count, queries)

    def means(self, values: np.ndarray) -> list[Interval]:
        """Of each column of float [queries, columns], with its 95% percentile interval."""
        return _intervals(values.mean(axis=0), self._sums(values) / len(values)) if len(values) else _none(values)

    def ratios(self, numerator: np.ndarray, denominator: np.ndarray) -> list[Interval]:
        """sum(numerator) / sum(denominator) of each column, queries resampled together; 0 for an empty sum."""
        if not len(numerator):
            return _none(numerator)
        bottom, whole = self._sums(denominator), denominator.sum(axis=0)
        samples = self._sums(numerator) / np.where(bottom == 0, 1, bottom)
        return _intervals(numerator.sum(axis=0) / np.where(whole == 0, 1, whole), samples)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """float64 [resamples, columns]."""
        return np.concatenate([self._counts[rows].astype(float) @ values for rows in self._blocks()])

    def _blocks(self) -> Iterator[slice]:
        resamples, queries = self._counts.shape
        return blocks(resamples, 4_000_000 // queries)  # bounds memory at 32 MB whatever the number of queries


def _intervals(means: np.ndarray, samples: np.ndarray) -> list[Interval]:
    """means: float [columns]. samples: float [resamples, columns]."""
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    return [Interval(*of) for of in zip(means.tolist(), low.tolist(), high.tolist(), strict=True)]


def _none(values: np.ndarray) -> list[Interval]:
    return [Interval(0.0, 0.0, 0.0)] * values.shape[1]


def bootstrap(values: np.ndarray, resamples: int, seed: int) -> Interval:
    """Mean of `values` (float [queries]) with its 95% percentile interval over resampled queries.

    For a paired comparison give the differences query by query. Efron & Tibshirani 1993, chapter 13; the same seed
    gives the same resamples. `Resamples` does many at once.
    """
    return Resamples(len(values), resamples, seed).means(values[:, None])[0]


def bootstrap_ratio(numerator: np.ndarray, denominator: np.ndarray, resamples: int, seed: int) -> Interval:
    """sum(numerator) / sum(denominator) with its 95% interval, queries resampled together; 0 for an empty sum."""
    return Resamples(len(numerator), resamples, seed).ratios(numerator[:, None], denominator[:, None])[0]
