"""How well a codebook is used: per level perplexity, dead codes, Gini; per SID items, singletons, share split."""

from __future__ import annotations

from typing import Any

import numpy as np


def statistics(
    codes: np.ndarray, level_sizes: tuple[int, int, int], was_split: np.ndarray | None = None
) -> dict[str, Any]:
    """A report that JSON can hold.

    Args:
        codes: int [n, 3], the SID of each item.
        level_sizes: codes a level, used or not.
        was_split: bool [n], whether the item's SID came from the split of an oversize one; None: none did.

    Returns:
        items, and
        levels: a list of dict(size, used, dead, perplexity, gini, lorenz, prefixes, children). perplexity is the
            exponential of the entropy of the use of the codes (size when all are used alike); gini and lorenz count
            dead codes too; prefixes are the nodes at that depth, children how many a node above has on average.
        sids: dict(count, mean_items, seen_items, max_items, singletons, singleton_share, split_share, sizes).
            seen_items is the mean size of the SID that an item sits in; singleton_share is of SIDs, split_share of
            items; sizes maps a number of items to the number of SIDs that hold so many.
    """
    split = np.zeros(len(codes), dtype=bool) if was_split is None else was_split
    prefixes = [len(np.unique(codes[:, : level + 1], axis=0)) for level in range(3)]
    levels = [
        {**usage(np.bincount(codes[:, level], minlength=size)), "prefixes": prefixes[level]}
        for level, size in enumerate(level_sizes)
    ]
    for level, above in zip(levels, [1, *prefixes], strict=False):
        level["children"] = level["prefixes"] / above
    counts = np.unique(codes, axis=0, return_counts=True)[1]
    sizes, occurrences = np.unique(counts, return_counts=True)
    return {
        "items": len(codes),
        "levels": levels,
        "sids": {
            "count": len(counts),
            "mean_items": float(counts.mean()),
            "seen_items": float((counts**2).sum() / counts.sum()),
            "max_items": int(counts.max()),
            "singletons": int((counts == 1).sum()),
            "singleton_share": float((counts == 1).mean()),
            "split_share": float(split.mean()),
            "sizes": {str(size): int(number) for size, number in zip(sizes, occurrences, strict=True)},
        },
    }


def usage(counts: np.ndarray) -> dict[str, Any]:
    """size, used, dead, perplexity, gini of a level whose code k is used counts[k] times, and its Lorenz curve."""
    shares = counts / counts.sum()
    used = shares[shares > 0]
    return {
        "size": len(counts),
        "used": len(used),
        "dead": len(counts) - len(used),
        "perplexity": float(np.exp(-(used * np.log(used)).sum())),
        "gini": gini(counts),
        "lorenz": lorenz(counts),
    }


def gini(counts: np.ndarray) -> float:
    """0 when all are alike, 1 - 1/k when one of k has everything."""
    ordered = np.sort(counts)
    k = len(ordered)
    return float(((2 * np.arange(1, k + 1) - k - 1) * ordered).sum() / (k * ordered.sum()))


def lorenz(counts: np.ndarray, points: int = 65) -> list[float]:
    """The share of the items that the least used codes hold, at `points` even shares of the codes from 0 to 1."""
    cumulative = np.concatenate([[0.0], np.cumsum(np.sort(counts)) / counts.sum()])
    curve = np.interp(np.linspace(0, len(counts), points), np.arange(len(counts) + 1), cumulative)
    return [round(float(value), 5) for value in curve]
