"""Oversize SIDs: more items than `max_items` under one SID are dealt at random into groups, each a SID of its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class SplitCodes(NamedTuple):
    """codes: int32 [n, 3] after the split.
    leaves: int32 [m, 3], the SIDs before it, sorted.
    third: int32 [m], the third code that a new item of a leaf gets.
    was_split: bool [n], whether the item's SID is a part of a larger one.
    size3: the size of the third vocabulary.
    """

    codes: np.ndarray
    leaves: np.ndarray
    third: np.ndarray
    was_split: np.ndarray
    size3: int


def split_oversize(
    codes: np.ndarray, max_items: int, max_groups: int, rng: np.random.Generator, size3: int = 0
) -> SplitCodes:
    """Split every SID of `codes` (int [n, 3]) with c > max_items into min(ceil(c / max_items), max_groups) groups.

    The pairs (third code, group) that occur anywhere in the codebook are numbered densely, by code and then by group,
    and the number is the new third code. Groups differ by one item at most. A new item of a split SID joins its last
    group, the smallest (all others have as many items or one more). Where nothing is split, codes stay as they are and
    the third vocabulary keeps `size3`.

    Paper, section 3.1: the same; there the group number is written behind the third token.
    """
    leaves, leaf, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    leaf = leaf.reshape(-1)
    groups = np.where(counts > max_items, np.minimum(-(-counts // max_items), max_groups), 1)
    if (groups == 1).all():
        size = max(size3, int(codes[:, 2].max()) + 1)
        return SplitCodes(
            codes.astype(np.int32), leaves.astype(np.int32), leaves[:, 2].astype(np.int32), leaf < 0, size
        )
    group = _rank_in_leaf(leaf, counts, rng) % groups[leaf]
    width = int(groups.max())
    pairs = codes[:, 2].astype(np.int64) * width + group
    numbered, third = np.unique(pairs, return_inverse=True)
    out = codes.astype(np.int32)
    out[:, 2] = third.reshape(-1)
    last = np.searchsorted(numbered, leaves[:, 2].astype(np.int64) * width + groups - 1)
    return SplitCodes(out, leaves.astype(np.int32), last.astype(np.int32), groups[leaf] > 1, len(numbered))


def _rank_in_leaf(leaf: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64 [n]: a random number 0 .. count-1 for each item, without repeats inside its leaf."""
    order = np.lexsort((rng.random(len(leaf)), leaf))
    rank = np.empty(len(leaf), dtype=np.int64)
    rank[order] = np.arange(len(leaf)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank
