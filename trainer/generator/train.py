"""Queries -> SIDs: the training of a generator, from tables to its folder in the bundle.

The page that reads as the recipe; the parts are next door: `examples` and `requests` (what is learned from),
`evidence` (what needs next to no training), `encoder_kind` and `lm_kind` (what learns), `stages` and `loop` (how),
`gates` (how much of it is used beside the evidence), `memory` (what is remembered of queries), `dev` (how it is
evaluated).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from genrecall import files
from genrecall.decoding.config import EVIDENCE
from trainer.generator.context import TrainingContext, TrainingData, TrainingSettings
from trainer.generator.evidence import TrainedEvidence, train_evidence
from trainer.generator.gates import fit_gates
from trainer.generator.memory import fit_memory, judged_wants, logged_wants
from trainer.generator.stages import Learner, text_stage, user_stage


def train_generator(data: TrainingData, settings: TrainingSettings, out: Path, work: Path) -> dict[str, Any]:
    """Train a generator for the SIDs of `data.space` and write it to `out`, whole or not at all.

    Args:
        work: checkpoints, a folder a stage, named by everything that it depends on; a run resumes there.

    Returns:
        metrics: the kind, what it was trained on, the outcome of each stage.

    Raises UserError for tables that do not fit together and for a loss that is not finite.
    """
    context = TrainingContext.of(data, settings)
    if context.section.kind == "lm":
        from trainer.generator.lm_kind import lm_learner as learner_of
    else:
        from trainer.generator.encoder_kind import encoder_learner as learner_of
    torch.manual_seed(settings.seed)
    with files.new_folder(out, replace=True) as folder:
        learner = learner_of(context)
        evidence = make_evidence(learner, work)
        stages = run_stages(learner, work)
        metrics = {}
        if evidence is None:
            learner.save(folder, None)
        else:
            gates, fitted = fit_gates(learner, evidence)
            learner.save(folder, evidence.config(gates))
            evidence.save(folder / EVIDENCE)
            metrics["evidence"] = {**evidence.metrics, "gates": {**asdict(gates), "fitted": fitted}}
            if context.section.memory.enabled:
                metrics["memory"] = add_memory(data, learner, evidence, folder)
        for file in folder.rglob("*"):  # safetensors writes for the owner alone; a server may be another user
            file.chmod(file.stat().st_mode | 0o044)
    parameters = sum(p.numel() for p in learner.model.parameters())
    return {**context.summary(), **learner.metrics, **metrics, "parameters": parameters, "stages": stages}


def make_evidence(learner: Learner, work: Path) -> TrainedEvidence | None:
    """None where the configuration leaves it out."""
    context = learner.context
    if not context.section.evidence.enabled:
        return None
    (key,) = context.keys("evidence")
    return train_evidence(context, learner.vectors, work / f"evidence-{key}")


def add_memory(data: TrainingData, learner: Learner, evidence: TrainedEvidence, folder: Path) -> dict[str, Any]:
    """Write what is remembered of the training queries beside the generator, where dev queries do not object."""
    context = learner.context
    if data.from_logs and data.requests is not None:
        ids, least = data.items["item_id"].to_pylist(), context.section.memory.least
        wants, _ = logged_wants(data.requests[0], context.analyzer, ids, least)
    else:
        wants = judged_wants(context)
    memory, metrics = fit_memory(context, wants, evidence, learner.vectors)
    if memory is not None:
        memory.save(folder)
    return metrics


def run_stages(learner: Learner, work: Path) -> dict[str, dict[str, Any]]:
    """Those that the configuration asks for and the logs allow, each after the one before; their metrics by name."""
    context, section = learner.context, learner.context.section
    sections = [stage.section for stage in learner.text_stages]
    first, *others = sections
    *text_keys, user_key, alignment_key = context.keys(
        (learner.depends_on, first), *others, section.user, section.alignment
    )
    outcomes = {}
    for stage, key in zip(learner.text_stages, text_keys, strict=True):
        outcomes[stage.name] = text_stage(learner, stage, work / f"{stage.name}-{key}")
    if context.user:
        outcomes["user"] = user_stage(learner, work / f"user-{user_key}")
    if context.requests is not None and section.alignment.steps:
        from trainer.alignment import align  # which imports this package

        outcomes["alignment"] = align(learner, work / f"alignment-{alignment_key}")
    return outcomes
