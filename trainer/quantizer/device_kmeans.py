"""The k-means of `kmeans`, for many nodes at once on a device: the same method, other draws.

One by one, the thousands of small nodes of a level cost launches and not arithmetic. Nodes of like size are padded to
one tensor; a mask says which rows and centroids are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

ITERATIONS, SAMPLE = 20, 256  # as `kmeans` has them: Lloyd's iterations, rows a centroid that they see
_ROWS, _SCORES = 1 << 20, 1 << 27  # of a batch of nodes, and of the products of rows and centroids in memory at once


def split(
    x: Tensor, members: Sequence[np.ndarray], children: Sequence[int], seed: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """int64 [n] labels, each counted from 0 in its node, and float32 [k', d] centroids of every node.

    Args:
        x: float32 [n, d], on the device that computes.
        members: int64, the rows of each node, none empty; children: how many clusters each is split into at most.
    """
    labels, centroids = np.empty(len(x), dtype=np.int64), [np.empty(0)] * len(members)
    random = torch.Generator(device=x.device).manual_seed(seed)
    for nodes in _batches([len(rows) for rows in members]):
        rows, there = _padded([members[node] for node in nodes])
        k = torch.tensor([min(children[node], len(members[node])) for node in nodes], device=x.device)
        found, of_rows = _kmeans(
            x, torch.from_numpy(rows).to(x.device), torch.from_numpy(there).to(x.device), k, random
        )
        used = torch.zeros(found.shape[:2], dtype=torch.int64, device=x.device)
        used.scatter_add_(1, of_rows, torch.from_numpy(there).to(x.device).long())
        dense = ((used > 0).cumsum(1) - 1).gather(1, of_rows).cpu().numpy()
        labels[rows[there]] = dense[there]
        for node, own, kept in zip(nodes, found.cpu().numpy(), (used > 0).cpu().numpy(), strict=True):
            centroids[node] = own[kept]
    return labels, centroids


def _batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Nodes of like size together, at most _ROWS padded rows unless one alone has more."""
    batch: list[int] = []
    for node in sorted(range(len(sizes)), key=lambda n: -sizes[n]):
        if batch and (len(batch) + 1) * sizes[batch[0]] > _ROWS:
            yield batch
            batch = []
        batch.append(node)
    if batch:
        yield batch


def _padded(members: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """int64 [G, N] rows, 0 where padded, and bool [G, N], which are there."""
    sizes = np.array([len(rows) for rows in members])
    there = np.arange(sizes.max()) < sizes[:, None]
    rows = np.zeros(there.shape, dtype=np.int64)
    rows[there] = np.concatenate(members)
    return rows, there


def _kmeans(x: Tensor, rows: Tensor, there: Tensor, k: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """float32 [G, K, d] centroids and int64 [G, N], the nearest of each row. rows, there: [G, N]; k: int64 [G]."""
    most = int(k.max())
    fitted, among = rows, there
    if rows.shape[1] > SAMPLE * most:  # a batch this wide holds nodes of like size: all see the same share of theirs
        drawn = torch.rand(rows.shape, generator=random, device=x.device).masked_fill(~there, 2.0)
        at = drawn.topk(SAMPLE * most, dim=1, largest=False).indices
        fitted, among = rows.gather(1, at), there.gather(1, at)
    points = x[fitted]
    centroids, valid = _plus_plus(points, among, k, most, random)
    labels = None
    for _ in range(ITERATIONS):
        before, labels = labels, _nearest(points, centroids, valid)
        if before is not None and torch.equal(before, labels):
            break
        centroids = _means(points, among, labels, centroids)
    nearest = (
        _nearest(x[rows], centroids, valid)
        if rows.shape[1] * len(rows) <= _ROWS
        else _by_part(x, rows, centroids, valid)
    )
    return centroids, nearest


def _by_part(x: Tensor, rows: Tensor, centroids: Tensor, valid: Tensor) -> Tensor:
    return torch.cat([_nearest(x[part], centroids, valid) for part in rows.split(_ROWS // 16, dim=1)], 1)


def _nearest(points: Tensor, centroids: Tensor, valid: Tensor) -> Tensor:
    """int64 [G, N]: by Euclidean distance. points [G, N, d]; centroids [G, K, d]; valid: bool [G, K]."""
    half = 0.5 * centroids.square().sum(-1).masked_fill(~valid, torch.inf)
    step = max(1, _SCORES // (len(points) * centroids.shape[1]))
    parts = [(part @ centroids.mT - half.unsqueeze(1)).argmax(-1) for part in points.split(step, dim=1)]
    return torch.cat(parts, 1)


def _means(points: Tensor, there: Tensor, labels: Tensor, before: Tensor) -> Tensor:
    """[G, K, d]: the mean of the rows of each label; a label without rows keeps its centroid of `before`."""
    groups, k, dim = before.shape
    place = (torch.arange(groups, device=points.device).unsqueeze(1) * k + labels)[there]
    sums = points.new_zeros((groups * k, dim)).index_add_(0, place, points[there])
    counts = points.new_zeros(groups * k).index_add_(0, place, points.new_ones(len(place)))
    return torch.where(counts.unsqueeze(1) > 0, sums / counts.clamp(min=1).unsqueeze(1), before.view(-1, dim)).view(
        before.shape
    )


def _plus_plus(points: Tensor, there: Tensor, k: Tensor, most: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """[G, K, d] rows drawn by squared distance from those drawn, and bool [G, K], which count: fewer if rows repeat."""
    groups, rows, _ = points.shape
    distance = there.to(points.dtype)  # the first is drawn evenly
    centroids, valid = points.new_zeros((groups, most, points.shape[-1])), []
    for n in range(most):
        cumulative = distance.double().cumsum(1)
        total = cumulative[:, -1:]
        drawn = torch.rand((groups, 1), generator=random, device=points.device, dtype=torch.float64) * total
        at = torch.searchsorted(cumulative, drawn, right=True).clamp(max=rows - 1)
        centroids[:, n] = points.gather(1, at.unsqueeze(-1).expand(-1, -1, points.shape[-1])).squeeze(1)
        valid.append((n < k) & (total.squeeze(1) > 1e-9 * rows))
        away = (points - centroids[:, n : n + 1]).square().sum(-1)
        distance = torch.where(there, away if n == 0 else torch.minimum(distance, away), 0.0).scatter(1, at, 0.0)
    return centroids, torch.stack(valid, 1)
