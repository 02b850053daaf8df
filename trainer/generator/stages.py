"""The stages that both kinds of generator go through: queries, users, alignment. What differs is `Inputs`.

Each stage draws its batches from (seed, stage, step) alone, so a run that was interrupted sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from genrecall.config.generator import StageSection
from genrecall.decoding.generator import likely_codes
from genrecall.decoding.search import Prefix
from genrecall.decoding.user import select
from trainer.generator.dev import BATCH, lean_copy
from trainer.generator.examples import draw
from trainer.generator.job import Job
from trainer.generator.loop import Batch, Evaluate, Stage, run_stage
from trainer.generator.loss import Policy
from trainer.generator.requests import Requests


class Model(Protocol):
    """A generator under training: a `torch.nn.Module` of either kind."""

    @property
    def policy(self) -> Policy: ...

    @property
    def prefix(self) -> Callable[..., Prefix]: ...


class Inputs(Protocol):
    """Texts and users as what a model's `prefix` takes."""

    def __call__(
        self, pool: str, text: np.ndarray, profile: np.ndarray | None = None, recent: np.ndarray | None = None
    ) -> Batch:
        """pool: of `Job.pools`; text: int64 [B], rows of it; profile int64 [B, 2] and recent int64 [B, H], or none."""
        ...


def text_stage(
    name: str,
    number: int,
    job: Job,
    model: Any,
    inputs: Inputs,
    section: StageSection,
    shares: dict[str, float],
    evaluate: Evaluate | None,
    work: Path,
) -> dict[str, Any]:
    """Stages 1 and 2: texts of the examples -> SIDs, each group of texts by its share."""

    def batch(step: int) -> Batch:
        rng = np.random.default_rng((job.seed, number, step))
        text, sid = draw(job.examples, shares, section.batch, job.section.sampling.targets, rng)
        return {**inputs("examples", text), "sid": torch.from_numpy(sid).unsqueeze(1)}

    return run_stage(model, Stage(name, section, batch, evaluate), work, job.seed, job.progress)


def user_stage(job: Job, model: Any, inputs: Inputs, work: Path) -> dict[str, Any]:
    """Stage 3: a request and its user -> SIDs bought or clicked. Some requests are drawn without their user."""
    assert job.requests is not None
    section, number = job.section.user, 3
    requests = with_related(job, model, inputs, "requests", job.requests)
    wanting = np.flatnonzero(requests.wanted)

    def batch(step: int) -> Batch:
        rng = np.random.default_rng((job.seed, number, step))
        chosen = rng.choice(wanting, max(1, section.stage.batch // job.section.sampling.targets))
        unknown = rng.random(len(chosen)) < section.anonymous
        sid = requests.draw_wanted(chosen, job.section.sampling.targets, rng)
        return {**asked(inputs, "requests", requests, chosen, unknown), "sid": torch.from_numpy(sid)}

    evaluate = dev_of_requests(job, model, inputs) or dev_of_queries(job, model, inputs)
    stage = Stage("generator.user.stage", section.stage, batch, evaluate)
    return run_stage(model, stage, work, job.seed, job.progress)


def asked(inputs: Inputs, pool: str, requests: Requests, chosen: np.ndarray, unknown: np.ndarray | None) -> Batch:
    """The inputs of requests `chosen` (int64 [m]) with their users; `unknown` bool [m]: as if nobody were known."""
    profile, recent = requests.profile[chosen], requests.recent[chosen]
    if unknown is not None:
        profile, recent = np.where(unknown[:, None], -1, profile), np.where(unknown[:, None], -1, recent)
    return inputs(pool, requests.text[chosen], profile, recent)


def dev_of_queries(job: Job, model: Model, inputs: Inputs) -> Evaluate | None:
    """The recall of the judged dev queries by the model as it is; None where there are none."""
    if not job.held_out.texts:
        return None
    dev = job.dev(job.held_out)
    return lambda: dev.measure(model.policy, lambda rows: prefix_of(model, inputs("held_out", rows)))


def dev_of_requests(job: Job, model: Model, inputs: Inputs) -> Evaluate | None:
    """The recall of what was bought or clicked in dev requests, users known; None where there are none."""
    if job.held_out_requests is None or not len(job.held_out_requests):
        return None
    requests = with_related(job, model, inputs, "held_out_requests", job.held_out_requests)
    dev = job.dev(requests.judged())
    return lambda: dev.measure(
        model.policy, lambda rows: prefix_of(model, asked(inputs, "held_out_requests", requests, rows, None))
    )


def prefix_of(model: Model, batch: Batch) -> Prefix:
    """The model's prefix of a batch that is still on the host."""
    device = model.policy.heads.weight.device
    return model.prefix(**{name: tensor.to(device) for name, tensor in batch.items()})


@torch.no_grad()
def with_related(job: Job, model: Any, inputs: Inputs, pool: str, requests: Requests) -> Requests:
    """Each request with only those of the user's SIDs that the generator will read of it, as the served one selects."""
    section, policy = job.section.user, model.policy
    recent = torch.from_numpy(requests.recent)
    if not section.related:
        return replace(requests, recent=select(recent, policy.tables.sids.cpu(), None, section.recent).numpy())
    model.eval()
    decoder = lean_copy(policy.backbone)
    likely = torch.cat(
        [
            likely_codes(decoder, policy.heads, policy.tables, prefix_of(model, inputs(pool, rows)), section.related)
            for rows in np.array_split(np.arange(len(requests.texts)), max(1, len(requests.texts) // BATCH))
        ]
    ).cpu()
    kept = select(recent, policy.tables.sids.cpu(), likely[torch.from_numpy(requests.text)], section.recent)
    return replace(requests, recent=kept.numpy())
