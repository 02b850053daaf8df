"""Which codes may follow a prefix: the sorted list of valid SIDs as ranges of children, level by level.

Owns the tables and the expansion of prefixes to children. Knows nothing of the model: a new list of SIDs only needs
new tables.

Because the SIDs are sorted, the children of a prefix are neighbours. So a prefix is the number of its node in its
level, a level is one array of codes, and the children of node `i` are rows `start[i]` to `start[i + 1]` of the next
level (CSR): a few dozen bytes a SID whatever the sizes of the codebooks, where a bitmask of the third level takes
K1 x K2 x K3 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from genrecall.sid import LEVELS, SidSpace


@dataclass(frozen=True)
class ConstraintTables:
    """The prefix nodes of a SidSpace on a device.

    Attributes:
        code: of each level, int64 [nodes of the level], the code that leads to the node. Level 3's nodes are the
            SIDs, in order.
        start: of each level, int64 [parents + 1], first child of each parent; the only parent of level 1 is the root.
        width: of each level, the most children that a parent has: the padded number of candidates a beam.
    """

    code: tuple[Tensor, Tensor, Tensor]
    start: tuple[Tensor, Tensor, Tensor]
    width: tuple[int, int, int]

    @classmethod
    def build(cls, space: SidSpace, device: str | torch.device = "cpu") -> ConstraintTables:
        """The tables of `space`. Raises ValueError for a space without SIDs."""
        if not len(space):
            raise ValueError("the codebook has no SID: a search needs at least one")
        nodes = prefix_nodes(space)
        code = [space.sids[first, level].astype(np.int64) for level, first in enumerate(nodes)]
        start = [np.searchsorted(nodes[level], [0, *nodes[level - 1][1:], len(space)]) for level in (1, 2)]
        start = [np.array([0, len(code[0])]), *start]
        width = [int(np.diff(s).max()) for s in start]
        tensors = [torch.from_numpy(np.asarray(a, np.int64)).to(device) for a in (*code, *start)]
        return cls(
            (tensors[0], tensors[1], tensors[2]), (tensors[3], tensors[4], tensors[5]), (width[0], width[1], width[2])
        )

    @cached_property
    def paths(self) -> Tensor:
        """int64 [n, 3]: of each SID, the node of its prefix in each level."""
        third = torch.arange(len(self.code[2]), device=self.code[2].device)
        second = torch.searchsorted(self.start[2], third, right=True) - 1
        first = torch.searchsorted(self.start[1], second, right=True) - 1
        return torch.stack((first, second, third), dim=1)

    def paths_of(self, sid: np.ndarray) -> np.ndarray:
        """int64 [n, 3]: `paths` of some SIDs, int64 [n], on the host."""
        start = self._host_start
        second = np.searchsorted(start[1], sid, side="right") - 1
        return np.stack((np.searchsorted(start[0], second, side="right") - 1, second, sid), axis=1)

    @cached_property
    def _host_start(self) -> tuple[np.ndarray, np.ndarray]:
        return self.start[1].cpu().numpy(), self.start[2].cpu().numpy()

    @cached_property
    def sids(self) -> Tensor:
        """int64 [n, 3], the codes of each SID."""
        return torch.stack([code[node] for code, node in zip(self.code, self.paths.T, strict=True)], dim=1)

    def children(self, level: int, parent: Tensor) -> tuple[Tensor, Tensor]:
        """Node numbers in `level` of the children of `parent` (nodes of the level before), padded to `width[level]`.

        Args:
            parent: int64 [...]; zeros (the root) at level 0.

        Returns:
            nodes int64 [..., width], always in range, and valid bool [..., width]. No shape depends on the values.
        """
        first, end = self.start[level][parent], self.start[level][parent + 1]
        slot = torch.arange(self.width[level], device=parent.device)
        node = first.unsqueeze(-1) + slot
        valid = node < end.unsqueeze(-1)
        return node.clamp(max=self.code[level].shape[0] - 1), valid


def prefix_nodes(space: SidSpace) -> list[np.ndarray]:
    """Of each level, int64 [nodes]: the row of the first SID under each node (level 3: every row)."""
    changed = np.ones((len(space), LEVELS), dtype=bool)
    if len(space):
        changed[1:] = np.maximum.accumulate(space.sids[1:] != space.sids[:-1], axis=1)
    return [np.flatnonzero(changed[:, level]) for level in range(LEVELS)]
