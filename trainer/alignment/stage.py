"""Stage 4, EG-GRPO: a `Trainer` whose loss rolls out, rewards, and learns. Runs as the last stage of `genrecall train`.

    generator.alignment.steps=200 generator.alignment.experts=2

Decisions, against GRPO as in DeepSeekMath and TRL and where the paper is silent. 2 to 6 were settings until the sweep
in docs/results/alignment.md, which found no alternative better:

 1. K experts stand in each group (`experts`; 0 is plain GRPO): SIDs bought or clicked in that request, then, where
    these are fewer than K, exposed ones. Each SID once; a request with fewer has more samples.
 2. The old probability of an expert's code is the policy's own, as if it had been generated, so its ratio is 1.
 3. Advantages are standardized over the whole group, experts included.
 4. The KL to the model before this stage is in the loss, by the estimator k3, not multiplied by the ratio; `kl_weight`
    is 1.0 as in the paper's settings (its formula has none).
 5. One step on each batch of rollouts: every ratio is 1, and nothing is clipped.
 6. Sampling is among valid SIDs, with the probabilities that are served: there are no invalid ones to reward.
 7. Rewards are of SIDs: one is bought where one of its items is. A request without click or purchase is left out
    (`requests=clicked`).
 8. Every code of a SID has the same advantage, and all SIDs the same length, so the means over tokens, sequences and
    batch are one.
 9. No dropout in rollouts and updates, so that rollouts and updates see the same model.
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
from trainer.alignment.loss import objective
from trainer.alignment.rollout import figures, roll_out, sample
from trainer.generator.loop import Batch, SidTrainer, TrainingStage
from trainer.generator.requests import CLICKED, EXPOSED
from trainer.generator.stages import Learner, evaluate_queries, evaluate_requests, request_inputs, with_related

REWARDED = ("experts", "known", "outcome", "step")  # of a batch; the rest are inputs of the prefix


def align(learner: Learner, work: Path) -> dict[str, Any]:
    """Run the stage on a model that went through the ones before; its metrics."""
    context, seed = learner.context, learner.context.settings.seed
    assert context.requests is not None
    section = context.section.alignment
    requests = with_related(learner, "requests", context.requests)
    usable = np.flatnonzero(requests.positives if section.requests == "clicked" else np.diff(requests.start))

    def batch(step: int) -> Batch:
        rng = np.random.default_rng((seed, 4, step))
        chosen = rng.choice(usable, section.batch)
        known, outcome = requests.outcomes(chosen)
        dropped = None if context.user else np.ones(len(chosen), dtype=bool)
        return {
            **request_inputs(learner, "requests", requests, chosen, dropped),
            "experts": torch.from_numpy(draw_experts(known, outcome, section.experts, rng)),
            "known": torch.from_numpy(known),
            "outcome": torch.from_numpy(outcome),
            "step": torch.tensor(step),
        }

    evaluate = evaluate_queries(learner) or evaluate_requests(learner)
    trainer = partial(AlignmentTrainer, section=section, reference=frozen(learner.model), seed=seed)
    stage = TrainingStage("generator.alignment", section, batch, evaluate, section.keep == "best", trainer)
    return learner.run(stage, work)


def draw_experts(known: np.ndarray, outcome: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """int64 [m, count]: distinct SIDs of each request's ground truth, at random; -1 where there are fewer.

    Bought and clicked ones come before exposed ones. known, outcome: int64 [m, M], as of `Requests.outcomes`.
    """
    rank = rng.random(known.shape)
    rank[outcome > EXPOSED] = np.inf
    rank += outcome > CLICKED
    out = np.full((len(known), count), -1, dtype=np.int64)
    for row, order in enumerate(np.argsort(rank, axis=1)):
        usable = known[row, order[np.isfinite(rank[row, order])]]
        distinct = usable[np.sort(np.unique(usable, return_index=True)[1])][:count]
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
        self.figures: dict[str, list[float]] = defaultdict(list)

    def loss_of(self, model: Any, inputs: Batch) -> Tensor:
        section = self.section
        model.eval()  # no dropout, though gradients flow
        prefix_inputs = {name: tensor for name, tensor in inputs.items() if name not in REWARDED}
        prefix = model.prefix(**prefix_inputs)
        seed = self.rollout_seed * 1_000_003 + int(inputs["step"])
        random = torch.Generator(device=prefix.embeds.device).manual_seed(seed)
        samples = sample(model.policy, prefix, section.group, random, section.temperature)
        rollout = roll_out(samples, inputs["experts"], inputs["known"], inputs["outcome"], section.reward)
        log_probs = model.policy.log_probs(prefix, rollout.sid)
        with torch.no_grad():
            reference = self.reference.policy.log_probs(self.reference.prefix(**prefix_inputs), rollout.sid)
        of = objective(log_probs, log_probs.detach(), reference, rollout.advantage, section.kl_weight)
        for name, value in {**figures(rollout), "kl": float(of.kl), "clipped": float(of.clipped)}.items():
            self.figures[name].append(value)
        return of.loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs |= {name: float(np.mean(values)) for name, values in self.figures.items()}
            self.figures.clear()
        super().log(logs, *args, **kwargs)
