"""One batch of rollouts: SIDs sampled from the policy, experts put among them, rewards and advantages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrecall.config.generator import AlignmentSection
from genrecall.decoding.sample import Samples
from genrecall.decoding.tables import ConstraintTables
from trainer.alignment import reward
from trainer.alignment.loss import advantages


@dataclass(frozen=True)
class Rollout:
    """B groups of G SIDs.

    Attributes:
        codes: int64 [B, G, 3]; sid: int64 [B, G], -1 where invalid.
        expert: bool [B, G]; the experts stand first.
        kind: int64 [B, G], positions in `reward.KINDS`; reward, advantage: float32 [B, G].
        entropy: float32 [B, G, 3] of the sampler; where an expert stands it is that of the sample it replaced.
    """

    codes: Tensor
    sid: Tensor
    expert: Tensor
    kind: Tensor
    reward: Tensor
    advantage: Tensor
    entropy: Tensor


def roll_out(
    samples: Samples,
    experts: Tensor,
    known: Tensor,
    outcome: Tensor,
    tables: ConstraintTables,
    section: AlignmentSection,
) -> Rollout:
    """Put experts in the place of the first samples of each group, and reward what is there.

    Args:
        experts: int64 [B, K], SIDs of the request's ground truth; -1 where there is no further one: the sample stays.
        known, outcome: int64 [B, M], see `reward.kinds`.
    """
    group = samples.codes.shape[1]
    given = torch.nn.functional.pad(experts, (0, group - experts.shape[1]), value=-1)
    expert = given >= 0
    codes = torch.where(expert.unsqueeze(-1), tables.sids[given.clamp(min=0)], samples.codes)
    sid = torch.where(expert, given, rows_of(samples.codes, tables))
    kind = reward.kinds(sid, known, outcome)
    earned = reward.values(section.reward, sid.device)[kind]
    return Rollout(codes, sid, expert, kind, earned, advantages(earned, section.scale), samples.entropy)


def rows_of(codes: Tensor, tables: ConstraintTables) -> Tensor:
    """int64 [B, G]: the row of each SID among the valid ones, -1 where it is none. codes: int64 [B, G, 3]."""
    node = torch.zeros_like(codes[..., 0])
    alive = torch.ones_like(node, dtype=torch.bool)
    for level in range(codes.shape[-1]):
        child, valid = tables.children(level, node)
        match = valid & (tables.code[level][child] == codes[..., level].unsqueeze(-1))
        alive &= match.any(-1)
        node = child.gather(-1, match.int().argmax(-1, keepdim=True)).squeeze(-1)
    return torch.where(alive, node, -1)


def describe(rollout: Rollout) -> dict[str, float]:
    """What is logged of a batch of rollouts. Shares of kinds and the entropy are of the sampled SIDs alone."""
    sampled = ~rollout.expert
    drawn = sampled.float().sum().clamp(min=1)
    best_sample = torch.where(sampled, rollout.reward, -torch.inf).amax(-1)
    best_expert = torch.where(rollout.expert, rollout.reward, -torch.inf).amax(-1)
    ordered = rollout.sid.sort(-1).values
    figures = {f"share_{kind}": ((rollout.kind == n) & sampled).sum() / drawn for n, kind in enumerate(reward.KINDS)}
    figures |= {
        "reward": (rollout.reward * sampled).sum() / drawn,
        "group_reward": rollout.reward.mean(),
        "zero_variance": (rollout.reward.amax(-1) == rollout.reward.amin(-1)).float().mean(),
        "experts": rollout.expert.float().sum(-1).mean(),
        "expert_wins": (best_expert > best_sample).float().mean(),
        "distinct": 1 + (ordered[:, 1:] != ordered[:, :-1]).float().sum(-1).mean(),
        "entropy": (rollout.entropy.sum(-1) * sampled).sum() / drawn,
    }
    return {name: float(value) for name, value in figures.items()}
