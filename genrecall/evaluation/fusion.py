"""Putting channels together: weighted reciprocal rank fusion, its weights from dev queries, and the union at equal
budget.

Pure functions over lists: int32 [queries, places], the items of `Evaluator.lists` by number, -1 after the end of a
list. Which systems are compared is in `results`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np

from genrecall.evaluation.metrics import Evaluator, blocks, lookup

Weights = dict[str, float]

BLOCK = 128  # queries at once: their scores stay in the cache of a core


@dataclass(frozen=True)
class SideBySide:
    """The lists of some channels for the same queries, one after another: a column is a place in one of the lists.

    Attributes:
        items: int32 [queries, columns], -1 after the end of a list.
        ranks: uint16 [channels, queries, columns], the rank that each channel gives to the item; 0: not in its list.
        owner: int64 [columns], the channel of each column.
    """

    items: np.ndarray
    ranks: np.ndarray
    owner: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[np.ndarray]) -> Self:
        items = np.concatenate(lists, axis=1)
        places = (np.broadcast_to(np.arange(1, of.shape[1] + 1, dtype=np.int32), of.shape) for of in lists)
        ranks = [lookup(of, place, items) for of, place in zip(lists, places, strict=True)]
        owner = np.repeat(np.arange(len(lists)), [of.shape[1] for of in lists])
        return cls(items, np.array(ranks, dtype=np.uint16), owner)

    def block(self, rows: slice) -> Self:
        return type(self)(self.items[rows], self.ranks[:, rows], self.owner)

    def first(self, depths: Sequence[int]) -> np.ndarray:
        """bool [queries, columns]: the places where an item is seen first, channels in order, each cut to its depth."""
        seen = np.zeros(self.items.shape, dtype=bool)
        out = np.zeros(self.items.shape, dtype=bool)
        for channel, depth in enumerate(depths):
            listed = (self.ranks[channel] > 0) & (self.ranks[channel] <= depth)
            out |= listed & ~seen & (self.owner == channel)
            seen |= listed
        return out

    def fused(self, weights: Sequence[float], rank_constant: int, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """(columns int64, scores float64) [queries, depth] of the fused list, best first; a score of 0 is its end.

        score(item) = sum over channels of weight / (rank_constant + rank), rank from 1 (Cormack et al., SIGIR 2009).
        Channels of weight 0 add neither score nor items. Ties go to the item seen first, channels in their order.
        """
        scores = np.zeros(self.items.shape)
        for ranks, weight in zip(self.ranks, weights, strict=True):
            if weight > 0:
                of_rank = weight / (rank_constant + np.arange(int(ranks.max(initial=0)) + 1.0))
                of_rank[0] = 0.0
                scores += of_rank[ranks]
        deepest = self.items.shape[1]
        scores[~self.first([deepest if weight > 0 else 0 for weight in weights])] = 0.0
        return top_columns(scores, min(depth, deepest))


def top_columns(scores: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """(columns, scores) [rows, depth] of the `depth` greatest in each row of float [rows, columns], ties by column."""
    if depth < scores.shape[1]:
        edge = np.partition(scores, -depth, axis=1)[:, -depth, None] if depth else np.inf
        above, level = scores > edge, scores == edge
        # of those that tie on the edge, the first ones until the row is full
        level &= np.cumsum(level, axis=1, dtype=np.int32) <= depth - above.sum(axis=1, keepdims=True)
        columns = np.nonzero(above | level)[1].reshape(len(scores), depth)
        scores = np.take_along_axis(scores, columns, axis=1)
    else:
        columns = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(scores, order, axis=1)


def rrf(lists: Mapping[str, np.ndarray], weights: Mapping[str, float], rank_constant: int, depth: int) -> np.ndarray:
    """int32 [queries, at most depth]: the lists of the channels in `weights` fused in that order; see `SideBySide`."""
    beside = SideBySide.of([lists[name] for name in weights])
    out = np.full((len(beside.items), min(depth, beside.items.shape[1])), -1, dtype=np.int32)
    for rows in blocks(len(out), BLOCK):
        block = beside.block(rows)
        columns, scores = block.fused(list(weights.values()), rank_constant, depth)
        out[rows] = np.where(scores > 0, np.take_along_axis(block.items, columns, axis=1), -1)
    return out


def tune(lists: Mapping[str, np.ndarray], dev: Evaluator, grid: Sequence[float], rank_constant: int) -> Weights:
    """The weights for `rrf` that do best on the dev queries, careful where these are few.

    Every point of the grid whose largest weight is 1 is tried; the objective is the mean of the evaluator's measures.
    Among the points within one standard error of the best one (of the difference, query by query) the one nearest to
    equal weights is taken: a few dozen dev queries cannot tell more than that apart (the one-standard-error rule,
    Breiman et al. 1984).
    """
    names = list(lists)
    if not dev.query_ids:
        return dict.fromkeys(names, 1.0)
    top = max(grid)
    points = [tuple(w / top for w in p) for p in product(sorted(set(grid)), repeat=len(names)) if max(p) == top]
    beside = SideBySide.of(list(lists.values()))
    gains = dev.gains(beside.items)
    depth = min(dev.deepest, max(of.shape[1] for of in lists.values()))
    fused = np.zeros((len(points), len(gains), depth), dtype=np.int32)
    for rows in blocks(len(gains), BLOCK):
        block = beside.block(rows)
        for n, point in enumerate(points):
            columns, scores = block.fused(point, rank_constant, depth)
            fused[n, rows] = np.where(scores > 0, np.take_along_axis(gains[rows], columns, axis=1), 0)
    values = [np.mean(list(dev.measure(of).values()), axis=0) for of in fused]
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


def union(lists: Sequence[np.ndarray], budget: int) -> np.ndarray:
    """int32 [queries, at most budget]: the candidates that reach the ranker when the channels share `budget` equally.

    Each once: -1 where a channel brings what one before it has brought, and after the end of a list.
    """
    cut = [of[:, :share] for of, share in zip(lists, shares(budget, len(lists)), strict=True)]
    beside = SideBySide.of(cut)
    return np.where(beside.first([of.shape[1] for of in cut]), beside.items, -1)


def unions(lists: Sequence[np.ndarray], budgets: Sequence[int], evaluator: Evaluator) -> list[tuple[np.ndarray, ...]]:
    """(relevant items found, distinct candidates), int64 [queries] each, of the `union` at each budget."""
    beside = SideBySide.of(lists)
    relevant = evaluator.relevant_at(evaluator.gains(beside.items))
    candidates = (beside.first(shares(budget, len(lists))) for budget in budgets)
    return [((relevant & of).sum(axis=1), of.sum(axis=1)) for of in candidates]


def recall(candidates: np.ndarray, evaluator: Evaluator) -> np.ndarray:
    """float64 [queries] share of each judged query's relevant items among its candidates."""
    return evaluator.found(candidates) / evaluator.wanted


def unique(
    lists: Mapping[str, np.ndarray], name: str, depth: int, evaluator: Evaluator
) -> tuple[np.ndarray, np.ndarray]:
    """(finds, missed), float64 [queries] each: what channel `name` finds of what all the others miss, at `depth`."""
    others = [of[:, :depth] for other, of in lists.items() if other != name]
    by_others = evaluator.found(union(others, depth * len(others)))
    by_all = evaluator.found(union([*others, lists[name][:, :depth]], depth * (len(others) + 1)))
    return by_all - by_others, evaluator.wanted - by_others
