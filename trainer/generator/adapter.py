"""Training of the query adapter: by InfoNCE against the items of the batch and random items of the catalogue.

Stopped by recall on dev queries; the untrained state is among the candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from genrecall.config.adapter import AdapterSection
from genrecall.decoding.adapter import QueryAdapter

DEV_DEPTH = 50  # training stops by recall at this depth


@dataclass(frozen=True)
class Positives:
    """Pairs of a query and a relevant item: int64 [p] rows of the query vectors and of the item vectors."""

    query: np.ndarray
    item: np.ndarray


def train_adapter(
    sources: Sequence[Positives],
    dev: Positives,
    item_vectors: np.ndarray,
    query_vectors: np.ndarray,
    section: AdapterSection,
    seed: int,
    known: Mapping[int, np.ndarray] | None = None,
) -> QueryAdapter:
    """Fit an adapter. item_vectors, query_vectors: float32 [n, dim], unit norm.

    sources: what to learn from, such as judged pairs and synthetic queries; a batch takes as much of each that is not
    empty. known: query row -> item rows taken out of its list before dev recall is measured (recurring queries).
    Without sources the adapter comes back untrained; without dev pairs it trains for `max_steps`.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = QueryAdapter(item_vectors.shape[1], section.hidden)
    sources = [source for source in sources if len(source.query)]
    if not sources:
        return adapter
    items, queries = torch.from_numpy(item_vectors), torch.from_numpy(query_vectors)
    query = torch.from_numpy(np.concatenate([source.query for source in sources]))
    item = torch.from_numpy(np.concatenate([source.item for source in sources]))
    ends = np.cumsum([len(source.query) for source in sources]).tolist()
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=section.learning_rate, weight_decay=section.weight_decay)
    best, kept, waited = dev_recall(adapter, dev, item_vectors, query_vectors, known), _copy(adapter), 0
    for step in range(1, section.max_steps + 1):
        pick = torch.cat(
            [
                torch.randint(start, end, (section.batch // len(sources),), generator=generator)
                for start, end in pairwise([0, *ends])
            ]
        )
        random = torch.randint(len(items), (section.random_items,), generator=generator)
        candidates, place = torch.unique(torch.cat([item[pick], random]), return_inverse=True)
        target = place[: len(pick)]
        logits = adapter(queries[query[pick]]) @ items[candidates].T / section.temperature
        others = _other_answers(query, item, query[pick], candidates, target, len(queries), len(items))
        loss = nn.functional.cross_entropy(logits.masked_fill(others, -torch.inf), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if len(dev.query) and step % section.check_every == 0:
            recall = dev_recall(adapter, dev, item_vectors, query_vectors, known)
            if recall > best:
                best, kept, waited = recall, _copy(adapter), 0
            elif (waited := waited + 1) >= section.patience:
                break
    if len(dev.query):
        adapter.load_state_dict(kept)
    return adapter.eval()


def dev_recall(
    adapter: QueryAdapter,
    dev: Positives,
    item_vectors: np.ndarray,
    query_vectors: np.ndarray,
    known: Mapping[int, np.ndarray] | None = None,
) -> float:
    """Mean over dev queries of the share of their items among the first `DEV_DEPTH`; 0 without dev queries."""
    if not len(dev.query):
        return 0.0
    queries, row = np.unique(dev.query, return_inverse=True)
    scores = adapter.apply_to(query_vectors[queries]) @ item_vectors.T
    for n, query in enumerate(queries.tolist()):
        scores[n, (known or {}).get(query, np.empty(0, dtype=np.int64))] = -np.inf
    depth = min(DEV_DEPTH, scores.shape[1])
    edge = np.partition(scores, -depth, axis=1)[:, -depth]
    hits = np.bincount(row, weights=scores[row, dev.item] >= edge[row])
    return float((hits / np.bincount(row)).mean())


def _other_answers(
    query: Tensor, item: Tensor, batch: Tensor, candidates: Tensor, target: Tensor, queries: int, items: int
) -> Tensor:
    """bool [batch, candidates]: candidates, other than a row's own item, that are relevant to its query too, and so no
    negatives.

    query, item: int64 [p], all training pairs. batch: int64 [b] query of each row. target: int64 [b] column of its
    item.
    """
    distinct, row = torch.unique(batch, return_inverse=True)
    slot, column = torch.full((queries,), -1), torch.full((items,), -1)
    slot[distinct] = torch.arange(len(distinct))
    column[candidates] = torch.arange(len(candidates))
    here = (slot[query] >= 0) & (column[item] >= 0)
    mask = torch.zeros(len(distinct), len(candidates), dtype=torch.bool)
    mask[slot[query[here]], column[item[here]]] = True
    mask = mask[row]
    mask[torch.arange(len(batch)), target] = False
    return mask


def _copy(adapter: QueryAdapter) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in adapter.state_dict().items()}
