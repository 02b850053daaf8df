"""The stages that both kinds of generator go through: texts, users, alignment. What differs is the `Learner`.

Each stage draws its batches from (seed, stage, step) alone, so an interrupted run draws what it would have drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from genrecall.config.generator import StageSection
from genrecall.decoding.config import EvidenceConfig
from genrecall.decoding.generator import likely_codes
from genrecall.decoding.search import Prefix
from genrecall.decoding.user_prefix import select
from trainer.generator.context import TrainingContext
from trainer.generator.dev import BATCH, lean_copy
from trainer.generator.examples import Examples, draw_pairs
from trainer.generator.loop import Batch, Evaluate, TrainingStage, run_stage
from trainer.generator.requests import Requests

PASSES = {"real": 10, "synthetic": 2, "title": 2}  # over the pairs of each group of texts, with steps=auto
FEWEST, MOST = 100, 2_000  # steps with steps=auto
EVALUATIONS = 20


class PrefixInputs(Protocol):
    """Texts and users as the tensors that a model's `prefix` takes."""

    def __call__(
        self, pool: str, text: np.ndarray, profile: np.ndarray | None = None, recent: np.ndarray | None = None
    ) -> Batch:
        """pool: of `TrainingContext.pools`; text: int64 [B], rows of it; profile int64 [B, 2], recent int64 [B, H]."""
        ...


@dataclass(frozen=True)
class TextStage:
    """Stage 1 or 2: texts of the examples -> SIDs, each group of texts by its share.

    Attributes:
        name: in the metrics; setting: its section, as in `generator.lm.item_stage`.
        number: tells its batches from those of other stages.
        evaluated: whether dev queries say anything about it.
    """

    name: str
    setting: str
    number: int
    section: StageSection
    shares: dict[str, float]
    evaluated: bool = True


@dataclass(frozen=True)
class Learner:
    """A generator under training, of either kind.

    Attributes:
        model: a `torch.nn.Module` with `policy` (`Policy`) and `prefix(**inputs)` (`Prefix`).
        vectors: float32 [n, dim] of the texts of each pool, where the kind has an encoder.
        depends_on: settings of the kind, beside the stages' own, that the weights depend on.
        save: writes the generator's folder, given the settings of its evidence.
        bfloat16: whether products are computed in it; weights and sums stay float32.
    """

    context: TrainingContext
    model: Any
    inputs: PrefixInputs
    text_stages: tuple[TextStage, ...]
    save: Callable[[Path, EvidenceConfig | None], None]
    vectors: dict[str, torch.Tensor] | None = None
    depends_on: tuple[object, ...] = ()
    bfloat16: bool = False
    metrics: dict[str, Any] = field(default_factory=dict)

    def prefix(self, batch: Batch) -> Prefix:
        """The model's prefix of a batch that is still on the host."""
        device = self.model.policy.heads.weight.device
        return self.model.prefix(**{name: tensor.to(device) for name, tensor in batch.items()})

    def run(self, stage: TrainingStage, work: Path) -> dict[str, Any]:
        """Train the model through `stage`; the metrics."""
        settings = self.context.settings
        stage = replace(stage, bfloat16=self.bfloat16)
        return run_stage(self.model, stage, work, settings.seed, settings.progress, settings.tensorboard)


def text_stage(learner: Learner, of: TextStage, work: Path) -> dict[str, Any]:
    """Run stage 1 or 2."""
    context = learner.context

    def batch(step: int) -> Batch:
        rng = np.random.default_rng((context.settings.seed, of.number, step))
        text, sid = draw_pairs(context.examples, of.shares, of.section.batch, context.section.sampling.targets, rng)
        return {**learner.inputs("examples", text), "sid": torch.from_numpy(sid).unsqueeze(1)}

    evaluate = evaluate_queries(learner) if of.evaluated else None
    return learner.run(TrainingStage(of.setting, planned(of, context.examples), batch, evaluate), work)


def planned(of: TextStage, examples: Examples) -> StageSection:
    """The settings of a stage with the number of its steps: what `steps=auto` stands for."""
    section = of.section
    if section.steps != "auto":
        return section
    passes = [
        math.ceil(times * len(examples.chosen(group)[0]) / (section.batch * of.shares[group]))
        for group, times in PASSES.items()
        if of.shares.get(group)
    ]
    steps = clamped(*passes)
    every = max(section.evaluate_every, steps // EVALUATIONS)
    return section.model_copy(update={"steps": steps, "evaluate_every": every})


def clamped(*steps: int) -> int:
    """The most of `steps`, within what steps=auto may be."""
    return min(max(FEWEST, *steps), MOST)


def user_stage(learner: Learner, work: Path) -> dict[str, Any]:
    """Stage 3: a request and its user -> SIDs bought or clicked. Some requests are drawn without their user."""
    context = learner.context
    assert context.requests is not None
    section, number, targets = context.section.user, 3, context.section.sampling.targets
    requests = with_related(learner, "requests", context.requests)
    usable = np.flatnonzero(requests.positives)

    def batch(step: int) -> Batch:
        rng = np.random.default_rng((context.settings.seed, number, step))
        chosen = rng.choice(usable, max(1, section.stage.batch // targets))
        dropped = rng.random(len(chosen)) < section.user_dropout
        sid = requests.draw_positives(chosen, targets, rng)
        return {**request_inputs(learner, "requests", requests, chosen, dropped), "sid": torch.from_numpy(sid)}

    evaluate = evaluate_requests(learner) or evaluate_queries(learner)
    stage = section.stage
    if stage.steps == "auto":
        passes = math.ceil(PASSES["real"] * len(usable) * targets / stage.batch)
        stage = stage.model_copy(update={"steps": clamped(passes)})
    return learner.run(TrainingStage("generator.user.stage", stage, batch, evaluate), work)


def request_inputs(
    learner: Learner, pool: str, requests: Requests, chosen: np.ndarray, dropped: np.ndarray | None = None
) -> Batch:
    """The inputs of requests `chosen` (int64 [m]) with their users, without those of `dropped` (bool [m])."""
    profile, recent = requests.profile[chosen], requests.recent[chosen]
    if dropped is not None:
        profile, recent = np.where(dropped[:, None], -1, profile), np.where(dropped[:, None], -1, recent)
    return learner.inputs(pool, requests.text[chosen], profile, recent)


def evaluate_queries(learner: Learner) -> Evaluate | None:
    """The recall of the judged dev queries by the model as it is; None where there are none."""
    context = learner.context
    if not context.held_out.texts:
        return None
    dev = context.dev(context.held_out, context.known)
    return lambda: dev.evaluate(learner.model.policy, lambda rows: learner.prefix(learner.inputs("held_out", rows)))


def evaluate_requests(learner: Learner) -> Evaluate | None:
    """The recall of what was bought or clicked in dev requests, users known; None where there are none."""
    context, pool = learner.context, "held_out_requests"
    if context.held_out_requests is None or not len(context.held_out_requests):
        return None
    requests = with_related(learner, pool, context.held_out_requests)
    dev = context.dev(requests.judged())
    return lambda: dev.evaluate(
        learner.model.policy, lambda rows: learner.prefix(request_inputs(learner, pool, requests, rows))
    )


@torch.no_grad()
def with_related(learner: Learner, pool: str, requests: Requests) -> Requests:
    """Each request with those of the user's SIDs alone that the generator will read, selected as in serving."""
    section, policy = learner.context.section.user, learner.model.policy
    recent, sids = torch.from_numpy(requests.recent), policy.tables.sids.cpu()
    if not section.related:
        return replace(requests, recent=select(recent, sids, None, section.recent).numpy())
    learner.model.eval()
    decoder = lean_copy(policy.backbone)
    parts = np.array_split(np.arange(len(requests.texts)), max(1, len(requests.texts) // BATCH))
    prefixes = (learner.prefix(learner.inputs(pool, rows)) for rows in parts)
    likely = torch.cat([likely_codes(decoder, policy.heads, policy.tables, p, section.related) for p in prefixes]).cpu()
    kept = select(recent, sids, likely[torch.from_numpy(requests.text)], section.recent)
    return replace(requests, recent=kept.numpy())
