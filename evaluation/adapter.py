"""The control to beat: the generator's training data spent on the query side of k-NN instead.

A residual MLP on the frozen query vector, `q + W2 gelu(W1 q)`, normalized; W2 starts at zero, so that an untrained
adapter is plain k-NN. Trained by InfoNCE against the items of the batch and random items of the catalogue, and
stopped by recall on dev queries; the untrained state is among the candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from genrecall.config.evaluation import AdapterSection

DEV_DEPTH = 50  # training stops by recall at this depth


class Pairs(NamedTuple):
    """Which items answer which queries.

    Attributes:
        queries: float32 [q, dim] unit query vectors.
        query: int64 [p] row of `queries`.
        item: int64 [p] row of the item vectors.
    """

    queries: np.ndarray
    query: np.ndarray
    item: np.ndarray


class QueryAdapter(nn.Module):
    """float32 [n, dim] unit vectors -> the same shape, unit norm."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, hidden)
        self.outer = nn.Linear(hidden, dim)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors + self.outer(nn.functional.gelu(self.inner(vectors))), dim=-1)

    @torch.inference_mode()
    def apply_to(self, vectors: np.ndarray) -> np.ndarray:
        return self(torch.from_numpy(vectors)).numpy()


def train_adapter(
    train: Pairs,
    dev: Pairs,
    item_vectors: np.ndarray,
    section: AdapterSection,
    seed: int,
    given: Mapping[int, np.ndarray] | None = None,
) -> QueryAdapter:
    """Fit an adapter. item_vectors: float32 [n, dim], unit norm.

    given: row of `dev.queries` -> item rows taken out of its list before recall is measured (recurring queries).
    Without training pairs the adapter comes back untrained; without dev pairs it trains for `max_steps`.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = QueryAdapter(item_vectors.shape[1], section.hidden)
    if not len(train.query):
        return adapter
    items, queries = torch.from_numpy(item_vectors), torch.from_numpy(train.queries)
    query, item = torch.from_numpy(train.query), torch.from_numpy(train.item)
    positive = query * len(items) + item
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=section.learning_rate, weight_decay=section.weight_decay)
    best, kept, waited = dev_recall(adapter, dev, item_vectors, given), _copy(adapter), 0
    for step in range(1, section.max_steps + 1):
        pick = torch.randint(len(query), (min(section.batch, len(query)),), generator=generator)
        random = torch.randint(len(items), (section.random_items,), generator=generator)
        candidates = torch.cat([item[pick], random])
        logits = adapter(queries[query[pick]]) @ items[candidates].T / section.temperature
        loss = nn.functional.cross_entropy(
            logits.masked_fill(_also_positive(query[pick], candidates, len(items), positive), -torch.inf),
            torch.arange(len(pick)),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if len(dev.query) and step % section.check_every == 0:
            recall = dev_recall(adapter, dev, item_vectors, given)
            if recall > best:
                best, kept, waited = recall, _copy(adapter), 0
            elif (waited := waited + 1) >= section.patience:
                break
    if len(dev.query):
        adapter.load_state_dict(kept)
    return adapter.eval()


def dev_recall(
    adapter: QueryAdapter, dev: Pairs, item_vectors: np.ndarray, given: Mapping[int, np.ndarray] | None = None
) -> float:
    """Mean over dev queries of the share of their items among the first `DEV_DEPTH`; 0 without dev queries."""
    if not len(dev.query):
        return 0.0
    scores = adapter.apply_to(dev.queries) @ item_vectors.T
    for row, items in (given or {}).items():
        scores[row, items] = -np.inf
    depth = min(DEV_DEPTH, scores.shape[1])
    edge = np.partition(scores, -depth, axis=1)[:, -depth]
    hit = scores[dev.query, dev.item] >= edge[dev.query]
    count = np.bincount(dev.query, minlength=len(dev.queries))
    hits = np.bincount(dev.query, weights=hit, minlength=len(dev.queries))
    return float((hits[count > 0] / count[count > 0]).mean())


def _also_positive(query: Tensor, candidates: Tensor, items: int, positive: Tensor) -> Tensor:
    """bool [batch, candidates]: candidates, other than a row's own item, that answer its query too: no negatives.

    positive: int64 [p] keys query * items + item of all training pairs.
    """
    mask = torch.isin(query[:, None] * items + candidates, positive)
    mask[:, : len(query)].fill_diagonal_(False)
    return mask


def _copy(adapter: QueryAdapter) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in adapter.state_dict().items()}
