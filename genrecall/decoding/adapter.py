"""The query adapter: training data spent on the query side of k-NN.

A residual MLP on the frozen query vector, `q + W2 gelu(W1 q)`, normalized; W2 starts at zero, so that an untrained
adapter is plain k-NN. Its training is in `trainer.generator.adapter`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


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
