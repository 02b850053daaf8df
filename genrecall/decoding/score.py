"""The log-probabilities of given SIDs, teacher-forced: what a reranker asks for.

Owns the forwards behind one prefix. SIDs that share a beginning share its row, and all of them share the prefix; a
valid SID scores exactly what a beam search that reaches it would score it (`LevelHeads`, `search.mix`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.search import DecodeState, Prefix, mix
from genrecall.decoding.tables import ConstraintTables

CHUNK = 256  # SIDs a forward: a row sees every row of its step, which makes the mask quadratic


@dataclass(frozen=True)
class SidTree:
    """n SIDs as the tree of prefixes that they span.

    Attributes:
        first: int64 [n1], the level-1 nodes; second: int64 [n2], the level-2 nodes; parent: int64 [n2], row of `first`
            that each second node continues.
        sid: int64 [n], the level-3 nodes; leaf: int64 [n], row of `second` that each continues.
    """

    first: Tensor
    second: Tensor
    parent: Tensor
    sid: Tensor
    leaf: Tensor

    @classmethod
    def of(cls, paths: np.ndarray) -> Self:
        """From int64 [n, 3], the nodes of each SID by level (`ConstraintTables.paths`)."""
        second, leaf = np.unique(paths[:, 1], return_inverse=True)
        above = np.empty_like(second)
        above[leaf] = paths[:, 0]
        first, parent = np.unique(above, return_inverse=True)
        return cls(*map(torch.from_numpy, (first, second, parent, paths[:, 2], leaf)))

    def to(self, device: str | torch.device) -> SidTree:
        return SidTree(*(t.to(device) for t in (self.first, self.second, self.parent, self.sid, self.leaf)))


def mixed_score(
    heads: LevelHeads, tables: ConstraintTables, prefilled: DecodeState | None, prefix: Prefix, tree: SidTree
) -> Tensor:
    """float32 [n]: log p of each SID of `tree`, by evidence and decoder as the search mixes them.

    Args:
        prefilled: of `prefix`; None where the decoder is not asked (`asks_decoder`).
        prefix: of a single prompt (B = 1).
    """
    own = None if prefilled is None else score(heads, tables, prefilled, prefix.text, tree)
    if prefix.evidence is None:
        assert own is not None
        return own
    of_evidence = prefix.evidence[0, tree.sid]
    return of_evidence if own is None else mix(of_evidence.unsqueeze(0), own.unsqueeze(0), prefix.gate)[0]


def score(
    heads: LevelHeads, tables: ConstraintTables, prefilled: DecodeState, text: Tensor | None, tree: SidTree
) -> Tensor:
    """float32 [n]: log p of each SID of `tree` by the decoder alone.

    Args:
        prefilled: of a single prefix (B = 1).
        text: [1, dim] where the generator has an encoder.
    """
    root = torch.zeros((1, 1), dtype=torch.int64, device=prefilled.state.device)
    one = heads(0, prefilled.state, tables, root, text)
    decoding = prefilled.step((heads.offsets[0] + tables.codes(0, tree.first)).unsqueeze(0))
    two = heads(1, decoding.state, tables, tree.first.unsqueeze(0), text)
    decoding = decoding.step((heads.offsets[1] + tables.codes(1, tree.second)).unsqueeze(0), tree.parent.unsqueeze(0))
    three = heads(2, decoding.state, tables, tree.second.unsqueeze(0), text)
    above = tree.first[tree.parent]
    of_one = one[0, 0][tables.slot(0, torch.zeros_like(above), above)]
    of_two = of_one + two[0, tree.parent, tables.slot(1, above, tree.second)]
    of_three = three[0, tree.leaf, tables.slot(2, tree.second[tree.leaf], tree.sid)]
    return of_two[tree.leaf] + of_three
