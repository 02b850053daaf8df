"""The training loss of both kinds: negative log-likelihood of a SID, each step normalized over the valid children.

Source: stages 1 and 2 of the paper use next-token cross-entropy over the vocabulary. Deviation: invalid codes take no
part, as the search will never offer them; nothing is spent on learning which SIDs exist.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genrecall.decoding.constraint import ConstraintTables, prefix_nodes
from genrecall.decoding.heads import LevelHeads
from genrecall.sid import LEVELS, SidSpace


def paths_of(space: SidSpace) -> Tensor:
    """int64 [n, 3]: the node of every SID's prefix in each level."""
    rows = np.arange(len(space))
    return torch.from_numpy(np.stack([np.searchsorted(f, rows, side="right") - 1 for f in prefix_nodes(space)], axis=1))


def sid_log_probs(
    heads: LevelHeads, tables: ConstraintTables, states: Tensor, path: Tensor, text: Tensor | None
) -> Tensor:
    """log p(SID) float32 [B], teacher-forced.

    Args:
        states: [B, 3, hidden], the decoder's states from which each level is predicted.
        path: int64 [B, 3], the nodes of the target.
        text: [B, dim] vectors, for a prefix prior.
    """
    parent = torch.zeros_like(path[:, :1])
    total = states.new_zeros(len(path), dtype=torch.float32)
    for level in range(LEVELS):
        scores, _ = heads(level, states[:, level : level + 1], tables, parent, text)
        slot = path[:, level] - tables.start[level][parent[:, 0]]
        total = total + scores[:, 0].gather(1, slot.unsqueeze(1)).squeeze(1)
        parent = path[:, level : level + 1]
    return total
