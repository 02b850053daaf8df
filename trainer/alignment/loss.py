"""The objective of EG-GRPO on tensors: advantages of a group, clipped ratio, KL to the reference.

Source: GRPO (DeepSeekMath, arXiv 2402.03300) as TRL computes it with `loss_type="grpo"`; the tests hold the two
together on the same tensors. Pure functions; sampling and rewards are next door.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-4  # beside the standard deviation of a group, as in TRL
CLIP = 0.2  # epsilon of the clipped ratio; the paper does not give its own


@dataclass(frozen=True)
class Objective:
    """The loss, the mean KL a code and the share of ratios clipped, all scalars."""

    loss: Tensor
    kl: Tensor
    clipped: Tensor


def advantages(rewards: Tensor) -> Tensor:
    """(r - mean) / (std + 1e-4) over each group. rewards: float32 [B, G]; the same for every code of a SID."""
    return (rewards - rewards.mean(-1, keepdim=True)) / (rewards.std(-1, keepdim=True) + EPSILON)


def kl_to(reference: Tensor, log_probs: Tensor) -> Tensor:
    """The estimator k3 of KL(policy || reference), of each code; never negative. Schulman 2020, "Approximating KL"."""
    gap = reference - log_probs
    return gap.exp() - gap - 1


def objective(
    log_probs: Tensor, old: Tensor, reference: Tensor, advantage: Tensor, kl_weight: float, clip: float = CLIP
) -> Objective:
    """The loss of B groups of G SIDs: mean over codes, then over SIDs.

    Args:
        log_probs: float32 [B, G, 3], of the policy under training; old: of the policy that sampled, no gradient;
            reference: of the frozen model, no gradient.
        advantage: float32 [B, G].
        kl_weight: of the KL in the loss; 0 leaves it out.
        clip: epsilon; the ratio is cut to 1 - epsilon ... 1 + epsilon where that lowers the objective.
    """
    ratio = (log_probs - old).exp()
    weight = advantage.unsqueeze(-1)
    gain = torch.minimum(ratio * weight, ratio.clamp(1 - clip, 1 + clip) * weight)
    kl = kl_to(reference, log_probs)
    loss = (-gain + kl_weight * kl).mean(-1).mean()
    clipped = ((ratio < 1 - clip) & (weight < 0)) | ((ratio > 1 + clip) & (weight > 0))
    return Objective(loss, kl.detach().mean(), clipped.float().mean())
