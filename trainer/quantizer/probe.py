"""The quality of codes without a generator: rank SIDs by the cosine of the query to the mean of their items."""

from __future__ import annotations

import numpy as np


def probe(
    codes: np.ndarray,
    item_vectors: np.ndarray,
    query_vectors: np.ndarray,
    relevant: tuple[np.ndarray, np.ndarray],
    beam: int = 50,
    cutoffs: tuple[int, ...] = (50, 200),
) -> dict[str, float]:
    """Mean recall over queries of the items in the `beam` best SIDs, cut at each of `cutoffs` items.

    Args:
        codes: int [n, 3].
        item_vectors: float32 [n, D], query_vectors: float32 [q, D], unit norm.
        relevant: query_idx and item_idx, int64 [p] each: the relevant items of each query.

    Returns:
        {"R@50": ..., "R@200": ..., "items": mean number of items in the best `beam` SIDs}. Queries without a relevant
        item do not count. Items of one SID stand in catalogue order.
    """
    _, sid, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    sid = sid.reshape(-1)
    members = np.argsort(sid, kind="stable")
    first = np.cumsum(counts) - counts
    means = np.add.reduceat(item_vectors[members], first, axis=0)
    means /= np.linalg.norm(means, axis=1, keepdims=True).clip(min=1e-12)
    scores = query_vectors @ means.T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :beam]
    recalls, listed_items = [], []
    for query in np.unique(relevant[0]):
        items = relevant[1][relevant[0] == query]
        listed = np.concatenate([members[first[s] : first[s] + counts[s]] for s in best[query]])
        hits = np.isin(listed, items)
        recalls.append([hits[:cutoff].sum() / len(items) for cutoff in cutoffs])
        listed_items.append(len(listed))
    means_of = np.mean(recalls, axis=0)
    report = {f"R@{cutoff}": float(value) for cutoff, value in zip(cutoffs, means_of, strict=True)}
    return {**report, "items": float(np.mean(listed_items))}
