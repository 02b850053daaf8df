"""Graded relevance of items to queries, from the true attributes of both.

Exact: the kind and every required attribute. Substitute: the kind, and all required attributes but one. Complement:
another kind of the same category. Irrelevant: anything else. In one pass over the shop each query is compared with the
items of its own kind alone, and keeps the most popular ones up to a limit, so that memory grows only with the queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.config import ShopSection
from simulation.queries import Queries
from simulation.shop import ATTRIBUTES, Items, Shop

LABELS = ("exact", "substitute", "complement", "irrelevant")
EXACT, SUBSTITUTE, COMPLEMENT, IRRELEVANT = range(4)
GRADES = np.array([100, 10, 1, 0], dtype=np.int32)  # of LABELS, as in ESCI
PENDING = 1 << 20  # candidates held before the least popular are dropped


@dataclass(frozen=True)
class Judgments:
    """Judgments as parallel arrays, by query: int32 query, item and label [n] (an index into LABELS)."""

    query: np.ndarray
    item: np.ndarray
    label: np.ndarray
    fitting: np.ndarray  # int64 [queries], how many items of the shop fit exactly, judged or not


class _MostPopular:
    """For each query the `limit` most popular items that were added; ties go to the lower item number."""

    def __init__(self, queries: int, limit: int) -> None:
        self.limit = limit
        self.threshold = np.full(queries, -np.inf if limit else np.inf, dtype=np.float32)
        self.chunks: list[np.ndarray] = []
        self.pending = 0

    def add(self, query: np.ndarray, item: np.ndarray, popularity: np.ndarray) -> None:
        above = popularity > self.threshold[query]
        chunk = np.empty(above.sum(), dtype=[("query", "i4"), ("item", "i4"), ("popularity", "f4")])
        chunk["query"], chunk["item"], chunk["popularity"] = query[above], item[above], popularity[above]
        self.chunks.append(chunk)
        self.pending += len(chunk)
        if self.pending > PENDING:
            self.best()

    def best(self) -> np.ndarray:
        """The kept candidates, by query, most popular first."""
        rows = np.concatenate(self.chunks) if self.chunks else np.empty(0, dtype=[("query", "i4"), ("item", "i4")])
        if not len(rows):
            return rows
        rows = rows[np.lexsort((rows["item"], -rows["popularity"], rows["query"]))]
        _, first, count = np.unique(rows["query"], return_index=True, return_counts=True)
        rank = np.arange(len(rows)) - np.repeat(first, count)
        last = rows[rank == self.limit - 1]
        self.threshold[last["query"]] = last["popularity"]
        rows = rows[rank < self.limit]
        # Candidates that were kept do not count as pending: they alone never cause another round.
        self.chunks, self.pending = [rows], 0
        return rows


class RelevanceLabeler:
    """Collects candidates from the blocks of a shop (`add`), then makes the judgments."""

    def __init__(self, shop: Shop, queries: Queries, section: ShopSection) -> None:
        self.shop, self.queries, self.section = shop, queries, section
        self.by_kind = [np.flatnonzero(queries.kind == kind) for kind in range(len(shop.kind_share))]
        self.exact = _MostPopular(len(queries), section.max_exact)
        self.substitutes = _MostPopular(len(queries), section.max_substitutes)
        self.fitting = np.zeros(len(queries), dtype=np.int64)

    def add(self, items: Items) -> None:
        order = np.argsort(items.kind, kind="stable")
        bounds = np.searchsorted(items.kind[order], np.arange(len(self.by_kind) + 1))
        for kind, queries in enumerate(self.by_kind):
            rows = order[bounds[kind] : bounds[kind + 1]]
            if not len(rows) or not len(queries):
                continue
            missed = count_missed(self.queries, queries[None, :], items, rows[:, None])
            self.fitting[queries] += (missed == 0).sum(axis=0)
            for count, kept in ((0, self.exact), (1, self.substitutes)):
                row, query = np.nonzero(missed == count)
                kept.add(queries[query], items.number[rows[row]], items.popularity[rows[row]])

    def judgments(self, sample: Items) -> Judgments:
        """All judgments. sample: items of the whole shop, which complements and irrelevant items are drawn from."""
        exact, substitutes = self.exact.best(), self.substitutes.best()
        others = self._others(sample)
        query = np.concatenate([exact["query"], substitutes["query"], others[0]]).astype(np.int32)
        item = np.concatenate([exact["item"], substitutes["item"], others[1]]).astype(np.int32)
        label = np.repeat([EXACT, SUBSTITUTE], [len(exact), len(substitutes)])
        label = np.concatenate([label, others[2]]).astype(np.int32)
        # An item is judged once for a query: by the better of its labels.
        order = np.lexsort((item, label, query))
        key = query[order].astype(np.int64) * self.shop.items + item[order]
        order = order[np.sort(np.unique(key, return_index=True)[1])]
        return Judgments(query[order], item[order], label[order], self.fitting)

    def _others(self, sample: Items) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Half of the others share the query's category, half are any item; labelled by their attributes."""
        random = self.shop.random("others")
        category_of_item = self.shop.category_of[sample.kind]
        order = np.argsort(category_of_item, kind="stable")
        bounds = np.searchsorted(category_of_item[order], np.arange(len(self.shop.categories) + 1))
        half, count = self.section.others // 2, self.section.others
        category = self.shop.category_of[self.queries.kind]
        first, last = bounds[category][:, None], bounds[category + 1][:, None]
        near = order[first + (random.random((len(category), half)) * (last - first)).astype(np.int64)]
        rows = np.concatenate([near, random.integers(len(sample), size=(len(category), count - half))], axis=1)
        query, rows = np.repeat(np.arange(len(category)), count), rows.ravel()
        same_kind = self.queries.kind[query] == sample.kind[rows]
        same_category = category[query] == category_of_item[rows]
        missed = count_missed(self.queries, query, sample, rows)
        label = np.where(same_category & ~same_kind, COMPLEMENT, IRRELEVANT)
        label = np.where(same_kind & (missed == 0), EXACT, np.where(same_kind & (missed == 1), SUBSTITUTE, label))
        return query, sample.number[rows], label


def count_missed(queries: Queries, which: np.ndarray, items: Items, rows: np.ndarray) -> np.ndarray:
    """int8: how many required attributes of query `which` item `rows` lacks. `which` and `rows` broadcast.

    Meaningful only for items of the query's kind, whose attribute values share one numbering.
    """
    missed = np.zeros(np.broadcast_shapes(which.shape, rows.shape), dtype=np.int8)
    for name in ATTRIBUTES:
        required = queries.required[name][which]
        if (required < 0).all():
            continue
        value = getattr(items, name)[rows]
        has = (value == required[..., None]).any(axis=-1) if name == "feature" else value == required
        missed += (required >= 0) & ~has
    return missed


def labels_of(grades: np.ndarray) -> np.ndarray:
    """int64 [n], indices into LABELS, of all the normalised grades of a dataset, float [n] (1.0 its best, 0 its worst).

    Where every grade is one of ESCI's four, each is its label. On any other scale a grade becomes the nearest of four
    evenly spaced ones, 1, 2/3, 1/3 and 0, the better where two are as near: TREC's 3, 2, 1, 0 are the four labels,
    a scale of two grades is exact and irrelevant.
    """
    distance = np.abs(np.asarray(grades, dtype=np.float32)[:, None] - GRADES / np.float32(100))
    if not len(distance) or distance.min(axis=1).max() < 1e-6:
        return distance.argmin(axis=1)
    return np.ceil(3 * (1 - np.asarray(grades, dtype=np.float64)) - 0.5).clip(0, 3).astype(np.int64)
