"""The dense prior: what the vectors of the items say about the children of a prefix, before anything is learned.

    logit(child | parent) += exp(tau) * <p + W p + A h, mean vector of the items under child> + b * log(items under
    child)

p is the text's vector, h the decoder's state; W and A start at zero, exp(tau) at 20, b at 1, so an untrained model is
a tree search in vector space. It needs codes whose prefixes mean something there: hierarchical ones do, residual ones
with shared codebooks don't. Node vectors are buffers of the module, so a saved generator needs no item to be loaded.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from genrecall.decoding.tables import prefix_nodes
from genrecall.sid import LEVELS, SidSpace

SHARPNESS = 20.0  # exp(tau) at the start


class DensePrior(nn.Module):
    """One sharpness and one weight of the size a level; W and A are shared by the levels.

    Args:
        nodes: nodes of each level.
        dim: of the text and item vectors.
        hidden_size: of the decoder.
    """

    def __init__(self, nodes: tuple[int, int, int], dim: int, hidden_size: int) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.full((LEVELS,), math.log(SHARPNESS)))
        self.size_weight = nn.Parameter(torch.ones(LEVELS))
        self.scale = math.sqrt(hidden_size)
        self.from_text = nn.Linear(dim, dim, bias=False)
        self.from_state = nn.Linear(hidden_size, dim, bias=False)
        nn.init.zeros_(self.from_text.weight)
        nn.init.zeros_(self.from_state.weight)
        for level, count in enumerate(nodes):
            self.register_buffer(f"vectors_{level}", torch.zeros(count, dim))
            self.register_buffer(f"log_items_{level}", torch.zeros(count))

    def fill(self, vectors: list[np.ndarray], items: list[np.ndarray]) -> None:
        """Set the mean vector (float [nodes, dim]) and the number of items of every node, level by level.

        Vectors are rounded to float16, as a bundle keeps them, so that what is trained is what is served.
        """
        for level in range(LEVELS):
            self.vectors(level).copy_(torch.from_numpy(vectors[level]).half())
            self.log_items(level).copy_(torch.from_numpy(np.log(items[level])))

    def vectors(self, level: int) -> Tensor:
        return self.get_buffer(f"vectors_{level}")

    def log_items(self, level: int) -> Tensor:
        return self.get_buffer(f"log_items_{level}")

    def forward(self, level: int, state: Tensor, text: Tensor, child: Tensor) -> Tensor:
        """Logits float32 [B, R, C] of the children, computed in float32 whatever the decoder's dtype.

        Args:
            state: [B, R, hidden], of R prefixes.
            text: [B, dim].
            child: int64 [B, R, C], nodes of `level`.
        """
        query = (text + self.from_text(text)).unsqueeze(1) + self.from_state(state.float() / self.scale)
        if level == 0:  # one parent, so every node is a child, in order
            near = query @ self.vectors(0).T
        else:
            near = (self.vectors(level)[child] @ query.unsqueeze(-1)).squeeze(-1)
        return self.tau[level].exp() * near + self.size_weight[level] * self.log_items(level)[child]


def node_means(space: SidSpace, rows: np.ndarray, vectors: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Mean vector and number of the items under every node of every level.

    Args:
        rows: int64 [n], the row in `space.sids` of each item's SID (`space.index_of(codes)`, none -1).
        vectors: float32 [n, dim] of the items.

    Returns:
        means float32 [nodes, dim] and counts float32 [nodes], each a list by level. Not normalized: a short mean is a
        wide node.
    """
    order = np.argsort(rows, kind="stable")
    bounds = np.searchsorted(rows[order], np.arange(len(space)))
    items = np.bincount(rows, minlength=len(space)).astype(np.float32)
    if (items == 0).any():
        raise ValueError(f"{int((items == 0).sum())} SIDs of the space have no item: the space and the codes differ")
    sums = np.add.reduceat(vectors[order], bounds, axis=0, dtype=np.float32)
    firsts = prefix_nodes(space)
    counts = [np.add.reduceat(items, first) for first in firsts]
    means = [np.add.reduceat(sums, f, axis=0) / c[:, None] for f, c in zip(firsts, counts, strict=True)]
    return means, counts
