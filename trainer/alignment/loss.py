"""The objective of EG-GRPO on tensors: advantages of a group, clipped ratio, KL to the reference.

Source: GRPO (DeepSeekMath, arXiv 2402.03300) as TRL computes it with `loss_type="grpo"`; the tests hold the two
together on the same tensors. What is added are experts. Pure functions; sampling and rewards are next door.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

EPSILON = 1e-4  # beside the standard deviation of a group, as in TRL
SHAPE = 0.1  # gamma of the shaped ratio r / (r + gamma): LUFFY, arXiv 2504.14945, section 3.2

ExpertRatio = Literal["policy", "certain", "shaped"]


@dataclass(frozen=True)
class Objective:
    """The loss and what is worth watching of it, all scalars."""

    loss: Tensor
    kl: Tensor
    clipped: Tensor


def advantages(rewards: Tensor, scale: Literal["group", "none"] = "group") -> Tensor:
    """(r - mean) / (std + 1e-4) over each group, or r - mean. rewards: float32 [B, G]; the same for every code."""
    centred = rewards - rewards.mean(-1, keepdim=True)
    return centred / (rewards.std(-1, keepdim=True) + EPSILON) if scale == "group" else centred


def kl_to(reference: Tensor, log_probs: Tensor) -> Tensor:
    """The estimator k3 of KL(policy || reference), of each code; never negative. Schulman 2020, "Approximating KL"."""
    gap = reference - log_probs
    return gap.exp() - gap - 1


def objective(
    log_probs: Tensor,
    old: Tensor,
    reference: Tensor,
    advantage: Tensor,
    expert: Tensor,
    clip: float,
    kl_weight: float,
    expert_ratio: ExpertRatio = "policy",
    kl_corrected: bool = False,
) -> Objective:
    """The loss of B groups of G SIDs: mean over codes, then over SIDs.

    Args:
        log_probs: float32 [B, G, 3], of the policy under training; old: of the policy that sampled, no gradient;
            reference: of the frozen model, no gradient.
        advantage: float32 [B, G].
        expert: bool [B, G], the SIDs that were injected.
        clip: epsilon; the ratio is cut to 1 - epsilon ... 1 + epsilon where that lowers the objective.
        kl_weight: of the KL in the loss; 0 leaves it out.
        expert_ratio: see `trainer.alignment.stage`.
        kl_corrected: whether the KL is multiplied by the ratio, which makes its gradient that of the reverse KL
            (DeepSeek-V3.2, arXiv 2512.02556; TRL's `use_bias_correction_kl`).
    """
    outside = expert.unsqueeze(-1)
    gap = log_probs - (old if expert_ratio == "policy" else torch.where(outside, 0.0, old))
    ratio = gap.exp()
    weight = advantage.unsqueeze(-1)
    cut = ratio.clamp(1 - clip, 1 + clip)
    gain = torch.minimum(ratio * weight, cut * weight)
    if expert_ratio == "certain":
        gain = torch.where(outside, ratio * weight, gain)  # a ratio far below 1 by definition: a clip would end it
    elif expert_ratio == "shaped":
        gain = torch.where(outside, ratio / (ratio + SHAPE) * weight, gain)
    kl = kl_to(reference, log_probs)
    loss = (-gain + kl_weight * (kl * ratio if kl_corrected else kl)).mean(-1).mean()
    was_cut = ((ratio < 1 - clip) & (weight < 0)) | ((ratio > 1 + clip) & (weight > 0))
    was_cut &= ~outside if expert_ratio != "policy" else torch.ones_like(outside)
    return Objective(loss, kl.detach().mean(), was_cut.float().mean())
