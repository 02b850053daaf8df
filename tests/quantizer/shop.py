"""A small catalogue with structure: clusters of unit vectors, categories that follow them, queries near their items."""

from typing import NamedTuple

import numpy as np

from genrecall.config.quantizer import CqSidSection, HierarchicalSection, QuantizerSection
from trainer.quantizer import QueryItemPairs

DIM = 16


class Shop(NamedTuple):
    vectors: np.ndarray
    categories: list[list[str]]
    pairs: QueryItemPairs


def make_shop() -> Shop:
    """600 items in 12 clusters, 3 a category, every 10th item without one; 24 queries with their 5 nearest items."""
    rng = np.random.default_rng(0)
    centers = unit(rng.normal(size=(12, DIM)))
    cluster = np.arange(600) % 12
    vectors = unit(centers[cluster] + 0.15 * rng.normal(size=(600, DIM)))
    categories = [["shop", f"c{c // 3}"] if i % 10 else [] for i, c in enumerate(cluster)]
    queries = unit(vectors[rng.choice(600, size=24, replace=False)] + 0.1 * rng.normal(size=(24, DIM)))
    items = np.argsort(-queries @ vectors.T, axis=1)[:, :5]
    pairs = QueryItemPairs(queries, np.repeat(np.arange(24), 5), items.reshape(-1), np.ones(120, dtype=np.float32))
    return Shop(vectors, categories, pairs)


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def section(*, cq_sid: dict | None = None, hierarchical: dict | None = None, **shared: object) -> QuantizerSection:
    """Small and fast, with what a test changes."""
    small = {"hidden": 32, "latent": 8, "warmup_epochs": 2, "epochs": 3, "batch_size": 128}
    return QuantizerSection(
        cq_sid=CqSidSection(**{**small, **(cq_sid or {})}),
        hierarchical=HierarchicalSection(**(hierarchical or {})),
        **shared,
    )
