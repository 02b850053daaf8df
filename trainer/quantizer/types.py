"""What goes into a quantizer and what it hands back before oversize SIDs are split."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class QueryItemPairs(NamedTuple):
    """What the query-item contrast learns from: (query, relevant item) pairs of the training split.

    query_vectors: float32 [q, D], unit norm.
    query_idx, item_idx: int64 [p], rows of `query_vectors` and of the catalogue.
    weight: float32 [p], positive: how often a pair is drawn among the pairs of its item.
    """

    query_vectors: np.ndarray
    query_idx: np.ndarray
    item_idx: np.ndarray
    weight: np.ndarray


class FitInput(NamedTuple):
    """vectors: float32 [n, D] of the items.
    forced: int64 [n], the level-1 code of each item's category, -1 where it has none.
    categories: how many categories have a code.
    pairs: None where there is nothing to learn from.
    """

    vectors: np.ndarray
    forced: np.ndarray
    categories: int
    pairs: QueryItemPairs | None


class RawCodes(NamedTuple):
    """codes: int32 [n, 3].
    level_sizes: codes a level.
    guided: whether level 1 is the category.
    arrays: the quantizer's own arrays for `genrecall.assignment`.
    notes: how the fit went, for the report.
    """

    codes: np.ndarray
    level_sizes: tuple[int, int, int]
    guided: bool
    arrays: dict[str, np.ndarray]
    notes: dict[str, Any]
