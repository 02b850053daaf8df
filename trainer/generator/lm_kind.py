"""Training of the `lm` kind: stage 1 items -> SIDs, stage 2 queries -> SIDs, stage 3 users, stage 4 alignment.

Deviations from the paper, numbered:
1. Any Qwen2-family checkpoint, or the same architecture from scratch with a tokenizer trained on the catalogue.
2. The loss is normalized over the valid children (`loss`), where the paper's is over the vocabulary.
3. Stage 2 samples two SIDs for a query, by grade, and mixes synthetic queries in, half and half; alone where there
are no real ones. 4. A marker behind the text says whether it is an item's or a query's, and a user's SIDs and profile
stand before it as tokens; how the paper writes its prompts is not told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from genrecall.checkpoints import resolve
from genrecall.decoding.config import GeneratorConfig, Vocabulary, space_fingerprint
from genrecall.decoding.request_tokenizer import PromptTemplate, pad, user_tokens
from genrecall.decoding.tables import ConstraintTables
from trainer.generator.encoder_model import decoder_config
from trainer.generator.job import Job, training_device
from trainer.generator.lm_model import SidLanguageModel, load_checkpoint, train_tokenizer
from trainer.generator.logged_stages import logged_stages
from trainer.generator.loop import Batch
from trainer.generator.stages import dev_of_queries, text_stage


def train_lm(job: Job, work: Path, out: Path) -> dict[str, Any]:
    """Train in `work`, write the generator's folder to `out`, return the metrics."""
    section, sizes = job.section.lm, job.space.level_sizes
    tables = ConstraintTables.build(job.space, training_device())
    profiles = len(job.user.profiles) if job.user else 0
    if section.checkpoint is None:
        tokenizer = train_tokenizer(job.examples.texts[job.examples.groups["title"][0] :], section.bpe_size)
        vocabulary = Vocabulary(len(tokenizer), sizes, profiles)
        model = SidLanguageModel(decoder_config(job.section.decoder, vocabulary.size, tied=True))
    else:
        model, tokenizer = load_checkpoint(resolve(section.checkpoint))
        vocabulary = Vocabulary(len(tokenizer), sizes, profiles)
    model.prepare(vocabulary, tables, job.section.decoder.dropout)
    nn.Module.to(model, training_device())
    lowercase = section.checkpoint is None
    inputs = PromptInputs(job, PromptTemplate(tokenizer.backend_tokenizer, vocabulary, section.max_tokens, lowercase))

    settings = (section.checkpoint, section.bpe_size, section.max_tokens, section.item_stage)
    item, query, with_user, aligned = job.keys(settings, section.query_stage, job.section.user, job.section.alignment)
    stages = {
        "item": text_stage(  # dev queries say nothing about stage 1, which knows no query
            *("lm.item_stage", 1, job, model, inputs, section.item_stage, {"title": 1.0}, None), work / f"item-{item}"
        ),
        "query": text_stage(
            *("lm.query_stage", 2, job, model, inputs, section.query_stage, job.query_shares()),
            dev_of_queries(job, model, inputs),
            work / f"query-{query}",
        ),
    }
    stages |= logged_stages(job, model, inputs, work, with_user, aligned)

    block = GeneratorConfig(
        *("lm", sizes, vocabulary.base, "children", False, section.max_tokens, space_fingerprint(job.space), lowercase),
        user=job.user,
    )
    model.save(out, block)
    tokenizer.save_pretrained(out)
    return {**job.describe(), "parameters": model.num_parameters(), "stages": stages}


class PromptInputs:
    """`stages.Inputs` of this kind: left-padded prompts."""

    def __init__(self, job: Job, prompts: PromptTemplate) -> None:
        first = job.examples.groups["title"][0]
        self.vocabulary = prompts.vocabulary
        self.tokens = job.space.sids.astype(np.int64) + np.array(self.vocabulary.offsets)
        self.ids = {}
        for name, texts in job.pools():
            queries = texts[:first] if name == "examples" else texts
            items = texts[first:] if name == "examples" else []
            self.ids[name] = [*prompts.ids(queries, "query"), *prompts.ids(items, "item")]

    def __call__(
        self, pool: str, text: np.ndarray, profile: np.ndarray | None = None, recent: np.ndarray | None = None
    ) -> Batch:
        ids = [self.ids[pool][t] for t in text]
        if profile is not None and recent is not None:
            before = user_tokens(recent, profile, self.tokens, self.vocabulary.first_profile)
            ids = [who + query for who, query in zip(before, ids, strict=True)]
        prompt, mask = pad(ids, side="left")
        return {"ids": torch.from_numpy(prompt), "mask": torch.from_numpy(mask)}
