"""The query-item contrast of CQ-SID."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def info_nce(items: Tensor, queries: Tensor, query_ids: Tensor, temperature: float) -> Tensor:
    """Bidirectional InfoNCE over cosines with in-batch negatives (paper, section 3.1): a scalar, 0 for an empty batch.

    Args:
        items, queries: [n, d]; row i of one belongs to row i of the other. Items without a query are left out by the
            caller.
        query_ids: int64 [n]. Deviation: in a small shop a batch holds the same query many times; another row of
            the same query is no negative, and left out of the denominators.
        temperature: divides the cosines.
    """
    if not len(items):
        return items.new_zeros(())
    logits = functional.normalize(items, dim=1) @ functional.normalize(queries, dim=1).T / temperature
    same = query_ids[:, None] == query_ids[None, :]
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -torch.inf)
    target = torch.arange(len(items), device=items.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
