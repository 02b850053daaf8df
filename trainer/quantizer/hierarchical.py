"""Balanced hierarchical k-means: the strong simple baseline.

Level 1 is a k-means of the catalogue (or its categories); then every node is split by itself, so that a prefix means a
region of the vector space. A node of n items gets about sqrt(n / items_per_sid) children, and each of these its own
n / items_per_sid: large nodes branch more, which keeps the leaves even. Nothing is trained, and no query is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from rich.progress import Progress

from genrecall.assignment import nearest
from genrecall.config.quantizer import QuantizerSection
from trainer.quantizer.kmeans import kmeans
from trainer.quantizer.types import FitInput, RawCodes


def fit_hierarchical(
    data: FitInput, section: QuantizerSection, seed: int, bar: Progress, device: str = "cpu"
) -> RawCodes:
    """Cluster the vectors; categories are read where level1 is "category", pairs never. device: cpu, or cuda:N."""
    own, vectors = section.hierarchical, data.vectors
    leaf = own.items_per_sid
    guided = own.level1 == "category" and data.categories > 0
    if guided:
        first, labels = _by_category(vectors, data.forced, data.categories)
        size1 = data.categories
    else:
        size1 = level1_size(own.level1_size, len(vectors), leaf)
        labels, (first,) = split_nodes(vectors, [np.arange(len(vectors))], [size1], (seed, 1), device)
    codes, below = grow(vectors, labels, leaf, section, seed, bar, device)
    return RawCodes(
        codes,
        (size1, int(codes[:, 1].max()) + 1, int(codes[:, 2].max()) + 1),
        guided,
        {"centroids1": first, **below},
        {"level1": own.level1 if guided else "clusters"},
    )


def grow(
    vectors: np.ndarray,
    labels: np.ndarray,
    leaf: float,
    section: QuantizerSection,
    seed: int,
    bar: Progress,
    device: str = "cpu",
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """int32 [n, 3] codes under the level-1 `labels` (int64 [n]), and centroids2, centroids3: one a node, by prefix."""
    codes, centroids = [labels], {}
    for level in (2, 3):
        parents = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
        members = np.split(np.argsort(parents, kind="stable"), np.cumsum(np.bincount(parents))[:-1])
        task = bar.add_task(f"hierarchical k-means, level {level}", total=len(members))
        children = [min(branching(len(rows), leaf, level), section.max_children) for rows in members]
        split, of_level = split_nodes(vectors, members, children, (seed, level), device, partial(bar.advance, task))
        bar.update(task, completed=len(members))
        codes.append(split)
        centroids[f"centroids{level}"] = np.concatenate(of_level)
    return np.stack(codes, axis=1).astype(np.int32), centroids


def split_nodes(
    vectors: np.ndarray,
    members: Sequence[np.ndarray],
    children: Sequence[int],
    seed: tuple[int, int],
    device: str,
    done: Callable[[], object] = lambda: None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """int64 [n] labels, counted from 0 in each node, and the centroids of each node.

    On a CPU a node draws from a generator of its own, seeded by (*seed, node): one node's split does not depend on
    another's. On a device nodes are split together (`device_kmeans`).

    Args:
        members: int64, the rows of each node; children: into how many it is split at most.
        done: called behind every node on a CPU.
    """
    if device != "cpu":
        import torch

        from trainer.quantizer import device_kmeans

        own_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
        return device_kmeans.split(torch.from_numpy(vectors).to(device), members, children, own_seed)
    labels, centroids = np.empty(len(vectors), dtype=np.int64), []
    for node, rows in enumerate(members):
        own, labels[rows] = kmeans(vectors[rows], children[node], np.random.default_rng((*seed, node)))
        centroids.append(own)
        done()
    return labels, centroids


def level1_size(size: int | str, items: int, leaf: float) -> int:
    """Clusters of level 1: `size`, or for "auto" the power of two nearest sqrt(items / leaf)."""
    if size != "auto":
        return int(size)
    return 2 ** max(0, round(math.log2(max(1.0, items / leaf)) / 2))


def branching(items: int, leaf: float, level: int) -> int:
    """Children of a node at level 1 (level=2) or level 2 (level=3)."""
    leaves = items / leaf
    return max(1, round(math.sqrt(leaves) if level == 2 else leaves))


def _by_category(vectors: np.ndarray, forced: np.ndarray, categories: int) -> tuple[np.ndarray, np.ndarray]:
    """Category means and labels; an item without category joins the nearest mean."""
    known = forced >= 0
    counts = np.bincount(forced[known], minlength=categories)
    order = np.argsort(forced[known], kind="stable")
    starts = np.cumsum(counts) - counts
    first = np.add.reduceat(vectors[known][order], starts, axis=0) / counts[:, None]
    labels = forced.copy()
    labels[~known] = nearest(vectors[~known], first)
    return first.astype(np.float32), labels
