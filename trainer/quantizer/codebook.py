"""One level's codebook: nearest code, moving averages, restart of unused codes (van den Oord et al. 2017, app. A)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Codebook:
    """The codes of a level and the moving averages they are made of: embedding = average / count.

    Attributes:
        embedding: float32 [K, d].
        average: float32 [K, d], moving average of the sum of the vectors of a step under each code.
        count: float32 [K], moving average of their number.
        kept: bool [K], codes that never restart (those of a category).
    """

    embedding: Tensor
    average: Tensor
    count: Tensor
    kept: Tensor

    @classmethod
    def of(cls, embedding: Tensor, count: Tensor, kept: Tensor | None = None) -> Codebook:
        """A codebook at rest: `count` vectors a step are expected under each code."""
        kept = torch.zeros(len(embedding), dtype=torch.bool, device=embedding.device) if kept is None else kept
        return cls(embedding.clone(), embedding * count[:, None], count.clone(), kept)

    def nearest(self, x: Tensor) -> Tensor:
        """int64 [n]: the code at the least Euclidean distance from each row of `x` [n, d]."""
        return (x @ self.embedding.T - 0.5 * self.embedding.square().sum(1)).argmax(1)

    def update(self, x: Tensor, codes: Tensor, decay: float) -> None:
        """One step of the moving averages. x: [n, d], codes: int64 [n]. A code without rows keeps its embedding."""
        number = torch.zeros_like(self.count).index_add_(0, codes, torch.ones_like(x[:, 0]))
        total = torch.zeros_like(self.average).index_add_(0, codes, x)
        self.count.mul_(decay).add_(number, alpha=1 - decay)
        self.average.mul_(decay).add_(total, alpha=1 - decay)
        hit = number > 0
        self.embedding[hit] = self.average[hit] / self.count[hit, None]

    def restart(self, x: Tensor, below: float, rng: torch.Generator) -> int:
        """Move codes of too little use to random rows of `x`; how many were moved.

        Too little is a count under `below` times that of an even use (n / K). Embedding, average and count restart
        together, the count at that of an even use, so that a moved code has time to gather rows.
        """
        even = len(x) / len(self.count)
        unused = torch.nonzero((self.count < below * even) & ~self.kept)[:, 0]
        if len(unused):
            rows = torch.randint(len(x), (len(unused),), generator=rng).to(x.device)
            self.embedding[unused] = x[rows]
            self.average[unused] = x[rows] * even
            self.count[unused] = even
        return len(unused)
