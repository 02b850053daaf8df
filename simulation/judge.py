"""Which items fit which query, and how well, from their true attributes.

Exact: the kind and every wish. Substitute: the kind, and all but one wish. Complement: another kind of the same
category. Irrelevant: anything else. Walking the shop once, each query is compared only with items of its own kind, and
keeps the most popular ones up to a limit, so that memory grows with the queries alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.config import ShopSection
from simulation.queries import Queries
from simulation.shop import ATTRIBUTES, Items, Shop

GRADES = np.array([100, 10, 1, 0], dtype=np.int32)  # exact, substitute, complement, irrelevant; as in ESCI
EXACT, SUBSTITUTE, COMPLEMENT, IRRELEVANT = range(4)
PENDING = 1 << 20  # candidates held before the least popular are dropped


@dataclass(frozen=True)
class Judged:
    """Judgments as parallel arrays, by query: int32 query, item and label [n] (an index into GRADES)."""

    query: np.ndarray
    item: np.ndarray
    label: np.ndarray
    fitting: np.ndarray  # int64 [queries], how many items of the shop fit exactly, judged or not


class _MostPopular:
    """For each query the `limit` most popular items offered; ties go to the lower item number."""

    def __init__(self, queries: int, limit: int) -> None:
        self.limit = limit
        self.threshold = np.full(queries, -np.inf if limit else np.inf, dtype=np.float32)
        self.chunks: list[np.ndarray] = []
        self.pending = 0

    def offer(self, query: np.ndarray, item: np.ndarray, popularity: np.ndarray) -> None:
        wanted = popularity > self.threshold[query]
        chunk = np.empty(wanted.sum(), dtype=[("query", "i4"), ("item", "i4"), ("popularity", "f4")])
        chunk["query"], chunk["item"], chunk["popularity"] = query[wanted], item[wanted], popularity[wanted]
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
        # New candidates wait beyond what is settled, so that settled ones alone never cause another round.
        self.chunks, self.pending = [rows], 0
        return rows


class Judge:
    """Offered the blocks of a shop one after the other, then asked for the judgments."""

    def __init__(self, shop: Shop, queries: Queries, section: ShopSection) -> None:
        self.shop, self.queries, self.section = shop, queries, section
        self.by_kind = [np.flatnonzero(queries.kind == kind) for kind in range(len(shop.kind_share))]
        self.exact = _MostPopular(len(queries), section.max_exact)
        self.substitutes = _MostPopular(len(queries), section.max_substitutes)
        self.fitting = np.zeros(len(queries), dtype=np.int64)

    def see(self, items: Items) -> None:
        order = np.argsort(items.kind, kind="stable")
        bounds = np.searchsorted(items.kind[order], np.arange(len(self.by_kind) + 1))
        for kind, queries in enumerate(self.by_kind):
            rows = order[bounds[kind] : bounds[kind + 1]]
            if not len(rows) or not len(queries):
                continue
            missed = misses(self.queries, queries[None, :], items, rows[:, None])
            self.fitting[queries] += (missed == 0).sum(axis=0)
            for count, kept in ((0, self.exact), (1, self.substitutes)):
                row, query = np.nonzero(missed == count)
                kept.offer(queries[query], items.number[rows[row]], items.popularity[rows[row]])

    def judgments(self, sample: Items) -> Judged:
        """Everything judged; `sample`: items of the whole shop to take complements and irrelevant ones from."""
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
        return Judged(query[order], item[order], label[order], self.fitting)

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
        missed = misses(self.queries, query, sample, rows)
        label = np.where(same_category & ~same_kind, COMPLEMENT, IRRELEVANT)
        label = np.where(same_kind & (missed == 0), EXACT, np.where(same_kind & (missed == 1), SUBSTITUTE, label))
        return query, sample.number[rows], label


def misses(queries: Queries, which: np.ndarray, items: Items, rows: np.ndarray) -> np.ndarray:
    """int8: how many wishes of query `which` item `rows` leaves open. `which` and `rows` broadcast against each other.

    A wish means something only for an item of the query's kind: the caller sees to that.
    """
    missed = np.zeros(np.broadcast_shapes(which.shape, rows.shape), dtype=np.int8)
    for name in ATTRIBUTES:
        wish = queries.wishes[name][which]
        if (wish < 0).all():
            continue
        value = getattr(items, name)[rows]
        has = (value == wish[..., None]).any(axis=-1) if name == "feature" else value == wish
        missed += (wish >= 0) & ~has
    return missed
