"""Stage 4, EG-GRPO: a `Trainer` whose loss rolls out, rewards, and learns. Runs as the last stage of `genrecall train`.

    generator.alignment.steps=200 generator.alignment.experts=2

Differences from GRPO as in DeepSeekMath, and what is decided where the paper is silent; each is a setting of
`generator.alignment`:

 1. K experts stand in each group (`experts`; 0 is plain GRPO): SIDs bought or clicked in that request, then, where
    these are fewer than K, exposed ones (`experts_from`). Each SID once; a request with fewer has more samples.
 2. The old probability of an expert's code is the policy's own, "as if generated", so its ratio is 1 at the first step
    (`expert_ratio=policy`). `certain` takes 1, so the ratio is the policy's probability, not clipped; `shaped` is that
    as r / (r + 0.1).
 3. Advantages are standardized over the whole group, experts included (`scale=group`); `none` only centres them.
 4. The KL to the model before this stage is in the loss, by the estimator k3 (`kl_in=loss`, `kl_weight` 1.0 as the
    paper's settings name it; its formula has none). `reward` takes it off the reward of sampled SIDs instead, by the
    plain estimator log p - log p_reference, before advantages are made. `kl_corrected` multiplies it by the ratio.
 5. One step on each batch of rollouts (`updates=1`): ratios are then 1 and nothing is clipped.
 6. Sampling is among valid SIDs, whose probabilities are those served (`mask=children`); an invalid SID, reward 0, can
    only come up with `mask=level`.
 7. Rewards are of SIDs: one is bought where one of its items is. A request without click or purchase is left out
    (`requests=clicked`).
 8. Every code of a SID has the same advantage, and all SIDs the same length, so the means over tokens, sequences and
    batch are one.
 9. No dropout in rollouts and updates, so that the ratio compares like with like.
10. One process, one device.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrecall.config.generator import AlignmentSection
from genrecall.decoding.sample import level_logits, sample
from genrecall.decoding.search import Prefix
from genrecall.errors import UserError
from trainer.alignment.loss import advantages, objective
from trainer.alignment.rollout import Rollout, describe, roll_out
from trainer.generator.dev import lean_copy
from trainer.generator.job import Job
from trainer.generator.loop import Batch, SidTrainer, Stage, run_stage
from trainer.generator.loss import Policy
from trainer.generator.requests import CLICKED, EXPOSED
from trainer.generator.stages import Inputs, asked, dev_of_queries, dev_of_requests, with_related

REWARDED = ("experts", "known", "outcome", "step")  # of a batch; the rest is what a prefix is made of


def align(job: Job, model: Any, inputs: Inputs, work: Path) -> dict[str, Any]:
    """Run the stage on a model that went through the ones before; its metrics."""
    assert job.requests is not None
    section = job.section.alignment
    if section.mask == "level" and model.policy.heads.prior is not None:
        raise UserError(
            "generator.alignment.mask is level, but the prefix prior scores valid SIDs alone: set mask=children, or "
            "generator.encoder.prior=false"
        )
    requests = with_related(job, model, inputs, "requests", job.requests)
    usable = np.flatnonzero(requests.wanted if section.requests == "clicked" else np.diff(requests.start))

    def batch(step: int) -> Batch:
        rng = np.random.default_rng((job.seed, 4, step // section.updates))
        chosen = rng.choice(usable, section.batch)
        known, outcome = requests.outcomes(chosen)
        unknown = None if job.user else np.ones(len(chosen), dtype=bool)
        return {
            **asked(inputs, "requests", requests, chosen, unknown),
            "experts": torch.from_numpy(draw_experts(known, outcome, section, rng)),
            "known": torch.from_numpy(known),
            "outcome": torch.from_numpy(outcome),
            "step": torch.tensor(step),
        }

    evaluate = dev_of_queries(job, model, inputs) or dev_of_requests(job, model, inputs)
    stage = Stage("generator.alignment", section, batch, evaluate, section.keep == "best")
    trainer = partial(AlignmentTrainer, section=section, reference=frozen(model), seed=job.seed)
    return run_stage(model, stage, work, job.seed, job.progress, trainer)


def draw_experts(
    known: np.ndarray, outcome: np.ndarray, section: AlignmentSection, rng: np.random.Generator
) -> np.ndarray:
    """int64 [m, K]: distinct SIDs of each request's ground truth, at random; -1 where there are fewer.

    known, outcome: int64 [m, M], as of `Requests.outcomes`.
    """
    rank = rng.random(known.shape)  # bought or clicked before exposed, at random among themselves
    if section.experts_from == "clicked":
        rank[outcome > CLICKED] = np.inf
    else:
        rank[outcome > EXPOSED] = np.inf
        if section.experts_from == "both":
            rank += outcome > CLICKED
    out = np.full((len(known), section.experts), -1, dtype=np.int64)
    for row, order in enumerate(np.argsort(rank, axis=1)):
        there = known[row, order[np.isfinite(rank[row, order])]]
        distinct = there[np.sort(np.unique(there, return_index=True)[1])][: section.experts]
        out[row, : len(distinct)] = distinct
    return out


def frozen(model: nn.Module) -> Any:
    """A copy that does not learn."""
    return copy.deepcopy(model).eval().requires_grad_(False)


class AlignmentTrainer(SidTrainer):
    """Rolls out, rewards and learns in each step. Rollouts depend on (seed, step) and the weights alone.

    Args:
        reference: the model before this stage, frozen.
    """

    def __init__(self, *args: Any, section: AlignmentSection, reference: Any, seed: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        self.reference = reference
        self.rollout_seed = seed
        self.held: tuple[int, Rollout, Tensor] | None = None
        self.figures: dict[str, list[float]] = defaultdict(list)

    def loss_of(self, model: Any, inputs: Batch) -> Tensor:
        section = self.section
        model.eval()  # no dropout, though gradients flow
        who_asks = {name: tensor for name, tensor in inputs.items() if name not in REWARDED}
        prefix = model.prefix(**who_asks)
        rollout, old = self.rolled_out(model, inputs, prefix)
        log_probs = log_probs_of(model.policy, prefix, rollout, section.mask)
        with torch.no_grad():
            before = log_probs_of(self.reference.policy, self.reference.prefix(**who_asks), rollout, section.mask)
        old = log_probs.detach() if old is None else old
        advantage = rollout.advantage
        if section.kl_in == "reward":
            paid = section.kl_weight * (old - before).sum(-1) * ~rollout.expert
            advantage = advantages(rollout.reward - paid, section.scale)
        of = objective(
            *(log_probs, old, before, advantage, rollout.expert, section.clip),
            section.kl_weight if section.kl_in == "loss" else 0.0,
            *(section.expert_ratio, section.kl_corrected),
        )
        for name, value in {**describe(rollout), "kl": float(of.kl), "clipped": float(of.clipped)}.items():
            self.figures[name].append(value)
        return of.loss

    @torch.no_grad()
    def rolled_out(self, model: Any, inputs: Batch, prefix: Prefix) -> tuple[Rollout, Tensor | None]:
        """The rollouts of this step and, where they serve several updates, the log-probabilities they had at first."""
        step = int(inputs["step"])
        number = step // self.section.updates
        if self.held and self.held[0] == number:
            return self.held[1:]
        policy: Policy = model.policy
        random = torch.Generator(device=prefix.embeds.device).manual_seed(self.rollout_seed * 1_000_003 + number)
        samples = sample(
            *(lean_copy(policy.backbone), policy.heads, policy.tables, prefix, self.section.group, random),
            *(self.section.mask, self.section.temperature),
        )
        rollout = roll_out(samples, inputs["experts"], inputs["known"], inputs["outcome"], policy.tables, self.section)
        if self.section.updates == 1:
            return rollout, None
        self.held = number, rollout, log_probs_of(policy, prefix, rollout, self.section.mask)
        return self.held[1:]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs |= {name: float(np.mean(values)) for name, values in self.figures.items()}
            self.figures.clear()
        super().log(logs, *args, **kwargs)


def log_probs_of(policy: Policy, prefix: Prefix, rollout: Rollout, mask: str) -> Tensor:
    """log p float32 [B, G, 3] of the codes of a rollout, under the distribution that was sampled from."""
    if mask == "children":
        return policy.log_probs(prefix, rollout.sid)
    states = policy.states(prefix, rollout.codes)
    found = [
        level_logits(policy.heads, level, states[:, :, level])
        .log_softmax(-1)
        .gather(-1, rollout.codes[..., level : level + 1])
        .squeeze(-1)
        for level in range(rollout.codes.shape[-1])
    ]
    return torch.stack(found, dim=-1)
