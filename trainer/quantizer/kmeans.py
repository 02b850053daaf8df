"""k-means in numpy: k-means++ seeds on a sample, Lloyd's iterations, no empty cluster in the answer."""

from __future__ import annotations

import numpy as np

from genrecall.assignment import nearest

_CHUNK = 16384


def kmeans(
    x: np.ndarray, k: int, rng: np.random.Generator, iterations: int = 20, sample: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """float32 [k', d] centroids and int64 [n] labels: every row of `x` [n, d] has its nearest, every centroid a row.

    k' <= k, fewer where `x` has fewer distinct rows or a cluster ended empty. Centroids are fitted on at most `sample`
    random rows a centroid (as FAISS does) and stop moving when no label changes.
    """
    fitted = x if len(x) <= sample * k else x[rng.choice(len(x), sample * k, replace=False)]
    centroids = _plus_plus(fitted, min(k, len(fitted)), rng)
    labels = np.full(len(fitted), -1)
    for _ in range(iterations):
        before, labels = labels, label(fitted, centroids)
        if (before == labels).all():
            break
        centroids = means(fitted, labels, centroids)
    labels = label(x, centroids)
    used, dense = np.unique(labels, return_inverse=True)
    return centroids[used], dense


def label(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """int64 [n]: the nearest centroid, a chunk of rows at a time."""
    parts = [nearest(x[s : s + _CHUNK], centroids) for s in range(0, len(x), _CHUNK)]
    return np.concatenate(parts)


def means(x: np.ndarray, labels: np.ndarray, before: np.ndarray) -> np.ndarray:
    """float32 [k, d]: the mean of the rows of each label; a label without rows keeps its centroid of `before`."""
    order = np.argsort(labels, kind="stable")
    used, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    out = before.copy()
    out[used] = np.add.reduceat(x[order], starts, axis=0) / counts[:, None]
    return out


def _plus_plus(x: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """k rows drawn by squared distance from those drawn (Arthur and Vassilvitskii 2007); fewer if rows repeat."""
    squares = np.einsum("nd,nd->n", x, x)
    rows = [int(rng.integers(len(x)))]
    distance = np.full(len(x), np.inf)
    while True:
        last = x[rows[-1]]
        distance = np.minimum(distance, (squares - 2 * (x @ last) + last @ last).clip(min=0))
        distance[rows[-1]] = 0
        cumulative = np.cumsum(distance, dtype=np.float64)
        if len(rows) == k or cumulative[-1] <= 1e-9 * len(x):
            return x[rows]
        rows.append(int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right").clip(max=len(x) - 1)))
