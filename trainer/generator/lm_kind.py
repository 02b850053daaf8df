"""Training of the `lm` kind: stage 1 items -> SIDs, stage 2 queries -> SIDs.

Deviations from the paper, numbered:
1. Any Qwen2-family checkpoint, or the same architecture from scratch with a tokenizer trained on the catalogue.
2. The loss is normalized over the valid children (`loss`), where the paper's is over the vocabulary.
3. Stage 2 samples two SIDs for a query, by grade, and mixes synthetic queries in, half and half; alone where there
are no real ones. 4. A marker behind the text says whether it is an item's or a query's; how the paper writes its
prompts is not told.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genrecall.checkpoints import resolve
from genrecall.config.generator import StageSection
from genrecall.decoding.constraint import ConstraintTables
from genrecall.decoding.layout import GeneratorBlock, space_fingerprint
from genrecall.decoding.prompts import Prompts, Vocabulary, left_pad
from trainer.generator.encoder_model import decoder_config
from trainer.generator.job import Job, training_device
from trainer.generator.lm_model import SidLanguageModel, load_checkpoint, train_tokenizer
from trainer.generator.loop import Batch, Stage, run_stage
from trainer.generator.loss import paths_of


def train_lm(job: Job, work: Path, out: Path) -> dict[str, Any]:
    """Train in `work`, write the generator's folder to `out`, return the metrics."""
    section, sizes = job.section.lm, job.space.level_sizes
    tables = ConstraintTables.build(job.space, training_device())
    first_title = job.examples.groups["title"][0]
    if section.checkpoint is None:
        tokenizer = train_tokenizer(job.examples.texts[first_title:], section.bpe_size)
        vocabulary = Vocabulary(len(tokenizer), sizes)
        model = SidLanguageModel(decoder_config(job.section.decoder, vocabulary.size, tied=True))
    else:
        model, tokenizer = load_checkpoint(resolve(section.checkpoint))
        vocabulary = Vocabulary(len(tokenizer), sizes)
    model.prepare(vocabulary, tables, job.section.decoder.dropout)
    nn.Module.to(model, training_device())
    lowercase = section.checkpoint is None
    prompts = Prompts(tokenizer.backend_tokenizer, vocabulary, section.max_tokens, lowercase)

    ids = [
        *prompts.ids(job.examples.texts[:first_title], "query"),
        *prompts.ids(job.examples.texts[first_title:], "item"),
    ]
    plan = {  # dev queries say nothing about stage 1, which knows no query
        "item": (section.item_stage, {"title": 1.0}, None),
        "query": (section.query_stage, job.query_shares(), dev_measure(job, model, prompts)),
    }
    stages = {}
    for name, (numbers, shares, measure) in plan.items():
        stage = Stage(f"lm.{name}_stage", numbers, batches(job, numbers, shares, ids), measure)
        stages[name] = run_stage(model, stage, work / name, job.seed, job.progress)

    block = GeneratorBlock(
        "lm", sizes, vocabulary.base, "children", False, section.max_tokens, space_fingerprint(job.space), lowercase
    )
    model.save(out, block)
    tokenizer.save_pretrained(out)
    return {**job.describe(), "parameters": model.num_parameters(), "stages": stages}


def batches(job: Job, section: StageSection, shares: dict[str, float], ids: list[list[int]]) -> Callable[[int], Batch]:
    """step -> left-padded prompts and the paths of their targets."""
    draw, paths = job.drawer(section, shares), paths_of(job.space)

    def batch(step: int) -> Batch:
        text, sid = draw(step)
        prompt, mask = left_pad([ids[t] for t in text])
        return {"ids": torch.from_numpy(prompt), "mask": torch.from_numpy(mask), "path": paths[sid]}

    return batch


def dev_measure(job: Job, model: SidLanguageModel, prompts: Prompts) -> Callable[[], dict[str, float]] | None:
    """The dev recall of `model` as it is; None without dev queries."""
    dev = job.dev()
    if dev is None:
        return None
    ids, mask = (torch.from_numpy(a).to(training_device()) for a in left_pad(prompts.ids(job.held_out.texts, "query")))
    return lambda: dev.measure(model.model, model.heads, model.tables, model.prefix(ids, mask))
