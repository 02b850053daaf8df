"""One batch of rollouts: SIDs sampled from the policy, experts in place of some, rewards and advantages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from genrecall.config.generator import RewardSection
from genrecall.decoding.search import DecodeState, Prefix
from genrecall.sid import LEVELS
from trainer.alignment import reward
from trainer.alignment.loss import advantages
from trainer.generator.dev import lean_copy
from trainer.generator.policy import Policy


@dataclass(frozen=True)
class Samples:
    """`group` samples of each of B prefixes, with replacement.

    Attributes:
        sid: int64 [B, group], rows of the SidSpace.
        log_probs: float32 [B, group, 3] of each code, under the distribution that it was drawn from.
        entropy: float32 [B, group, 3] of that distribution, in nats.
    """

    sid: Tensor
    log_probs: Tensor
    entropy: Tensor


@dataclass(frozen=True)
class Rollout:
    """B groups of G SIDs.

    Attributes:
        sid: int64 [B, G].
        expert: bool [B, G]; the experts stand first.
        kind: int64 [B, G], positions in `reward.KINDS`; reward, advantage: float32 [B, G].
        entropy: float32 [B, G, 3] of the sampler; where an expert stands it is that of the sample it replaced.
    """

    sid: Tensor
    expert: Tensor
    kind: Tensor
    reward: Tensor
    advantage: Tensor
    entropy: Tensor


@torch.no_grad()
def sample(policy: Policy, prefix: Prefix, group: int, random: torch.Generator, temperature: float = 1.0) -> Samples:
    """Draw SIDs: three forwards of the decoder for all SIDs of a group, the prefix once.

    Rows and probabilities are those of the beam search (`DecodeState`, `LevelHeads`): what is sampled is what would be
    served, and every sample is a valid SID.

    Args:
        random: on the device of the policy.
        temperature: divides the log-probabilities before a draw; `log_probs` are those of the draw.
    """
    heads, tables = policy.heads, policy.tables
    decoding = DecodeState.prefill(lean_copy(policy.backbone), prefix)
    batch = len(prefix.mask)
    state = decoding.state.expand(-1, group, -1)
    node = torch.zeros((batch, group), dtype=torch.int64, device=state.device)
    log_probs, entropy = [], []
    for level in range(LEVELS):
        logits = (heads(level, state, tables, node, prefix.text) / temperature).log_softmax(-1)
        pick = torch.multinomial(logits.exp().flatten(0, 1), 1, generator=random).view(batch, group)
        log_probs.append(logits.gather(-1, pick.unsqueeze(-1)).squeeze(-1))
        entropy.append(-(logits.exp() * logits).sum(-1))
        node = tables.child(level, node, pick)
        if level < LEVELS - 1:
            decoding = decoding.step(heads.offsets[level] + tables.codes(level, node))
            state = decoding.state
    return Samples(node, torch.stack(log_probs, -1), torch.stack(entropy, -1))


def roll_out(samples: Samples, experts: Tensor, known: Tensor, outcome: Tensor, rewards: RewardSection) -> Rollout:
    """Put experts in the place of the first samples of each group, and reward what is there.

    Args:
        experts: int64 [B, K], SIDs of the request's ground truth; -1 where there is no further one: the sample stays.
        known, outcome: int64 [B, M], see `reward.kinds`.
    """
    group = samples.sid.shape[1]
    padded = F.pad(experts, (0, group - experts.shape[1]), value=-1)
    expert = padded >= 0
    sid = torch.where(expert, padded, samples.sid)
    kind = reward.kinds(sid, known, outcome)
    earned = reward.values(rewards, sid.device)[kind]
    return Rollout(sid, expert, kind, earned, advantages(earned), samples.entropy)


def figures(rollout: Rollout) -> dict[str, float]:
    """What is logged of a batch of rollouts. Shares of kinds and the entropy are of the sampled SIDs alone."""
    sampled = ~rollout.expert
    drawn = sampled.float().sum().clamp(min=1)
    best_sample = torch.where(sampled, rollout.reward, -torch.inf).amax(-1)
    best_expert = torch.where(rollout.expert, rollout.reward, -torch.inf).amax(-1)
    ordered = rollout.sid.sort(-1).values
    values = {f"share_{kind}": ((rollout.kind == n) & sampled).sum() / drawn for n, kind in enumerate(reward.KINDS)}
    values |= {
        "reward": (rollout.reward * sampled).sum() / drawn,
        "group_reward": rollout.reward.mean(),
        "zero_variance": (rollout.reward.amax(-1) == rollout.reward.amin(-1)).float().mean(),
        "experts": rollout.expert.float().sum(-1).mean(),
        "expert_wins": (best_expert > best_sample).float().mean(),
        "distinct": 1 + (ordered[:, 1:] != ordered[:, :-1]).float().sum(-1).mean(),
        "entropy": (rollout.entropy.sum(-1) * sampled).sum() / drawn,
    }
    return {name: float(value) for name, value in values.items()}
