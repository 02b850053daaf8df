"""What a generated SID earns for a request: pure arithmetic over arrays.

Source: section on EG-GRPO of the paper; first match wins, no adding. A SID is a cluster: it is purchased, clicked or
exposed where one of its items is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genrecall.config.generator import RewardSection
from trainer.generator.requests import NOTHING

VALID = NOTHING
KINDS = ("purchased", "clicked", "exposed", "valid")


def kinds(sid: Tensor, known: Tensor, outcome: Tensor) -> Tensor:
    """int64 [B, G]: what each SID is for its request, a position in KINDS.

    Args:
        sid: int64 [B, G], rows of the SidSpace.
        known: int64 [B, M], the SIDs purchased, clicked or exposed in the request, -1 behind.
        outcome: int64 [B, M], what happened to each; NOTHING behind.
    """
    same = sid.unsqueeze(-1) == known.unsqueeze(1)
    return torch.where(same, outcome.unsqueeze(1), VALID).amin(-1)


def values(section: RewardSection, device: torch.device | str = "cpu") -> Tensor:
    """float32 [4], the reward of each of KINDS."""
    return torch.tensor([getattr(section, kind) for kind in KINDS], device=device)
