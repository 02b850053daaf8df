"""Training of the `lm` kind: stage 1 items -> SIDs, stage 2 queries -> SIDs, stage 3 users, stage 4 alignment.

Deviations from the paper, numbered:
1. Any Qwen2-family checkpoint, or the same architecture from scratch with a tokenizer trained on the catalogue.
2. The loss is normalized over the valid children (`policy`), where the paper's is over the vocabulary.
3. Stage 2 samples two SIDs for a query, by grade, and mixes synthetic queries in, half and half; alone where there
are no real ones. 4. A marker behind the text says whether it is an item's or a query's, and a user's SIDs and profile
stand before it as tokens; the paper does not show its prompts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from genrecall.checkpoints import content_of, resolve
from genrecall.decoding.config import EvidenceConfig, GeneratorConfig, Vocabulary, space_fingerprint
from genrecall.decoding.request_tokenizer import PromptTemplate, pad, user_tokens
from genrecall.decoding.tables import ConstraintTables
from trainer.generator.context import TrainingContext, training_device
from trainer.generator.encoder_model import decoder_config
from trainer.generator.lm_model import SidLanguageModel, load_checkpoint, train_tokenizer
from trainer.generator.loop import Batch
from trainer.generator.stages import Learner, TextStage


def lm_learner(context: TrainingContext) -> Learner:
    """The model at its start: a checkpoint's weights, and those drawn from torch's global random numbers."""
    section, decoder, space = context.section.lm, context.section.decoder, context.space
    device = training_device(context.settings)
    tables = ConstraintTables.build(space, device)
    profiles = len(context.user.profiles) if context.user else 0
    if section.checkpoint is None:
        titles = context.examples.texts[context.examples.groups["title"][0] :]
        tokenizer = train_tokenizer(titles, section.bpe_size)
        vocabulary = Vocabulary(len(tokenizer), space.level_sizes, profiles)
        model = SidLanguageModel(decoder_config(decoder, vocabulary.size, tied=True))
    else:
        model, tokenizer = load_checkpoint(resolve(section.checkpoint))
        vocabulary = Vocabulary(len(tokenizer), space.level_sizes, profiles)
    model.prepare(vocabulary, tables, decoder.dropout)
    nn.Module.to(model, device)
    bfloat16 = section.precision == "bfloat16" or (section.precision == "auto" and device.type == "cuda")
    lowercase = section.checkpoint is None
    checkpoint = section.checkpoint and content_of(section.checkpoint)
    template = PromptTemplate(tokenizer.backend_tokenizer, vocabulary, section.max_tokens, lowercase)

    def save(folder: Path, evidence: EvidenceConfig | None) -> None:
        config = GeneratorConfig(
            kind="lm",
            level_sizes=space.level_sizes,
            base=vocabulary.base,
            normalizer="children",
            prior=False,
            max_tokens=section.max_tokens,
            space=space_fingerprint(space),
            lowercase=lowercase,
            user=context.user,
            evidence=evidence,
        )
        model.save(folder, config)
        tokenizer.save_pretrained(folder)

    # dev queries say nothing about stage 1, which is trained on no query
    item = TextStage("item", "generator.lm.item_stage", 1, section.item_stage, {"title": 1.0}, evaluated=False)
    query = TextStage("query", "generator.lm.query_stage", 2, section.query_stage, context.query_shares())
    return Learner(
        context=context,
        model=model,
        inputs=PromptInputs(context, template),
        text_stages=(item, query),
        save=save,
        bfloat16=bfloat16,
        depends_on=(checkpoint, section.bpe_size, section.max_tokens, *(["bfloat16"] if bfloat16 else [])),
    )


class PromptInputs:
    """`stages.PrefixInputs` of this kind: left-padded prompts."""

    def __init__(self, context: TrainingContext, template: PromptTemplate) -> None:
        first = context.examples.groups["title"][0]
        self.vocabulary = template.vocabulary
        self.tokens = context.space.sids.astype(np.int64) + np.array(self.vocabulary.offsets)
        self.ids = {}
        for name, texts in context.pools():
            queries = texts[:first] if name == "examples" else texts
            items = texts[first:] if name == "examples" else []
            self.ids[name] = [*template.ids(queries, "query"), *template.ids(items, "item")]

    def __call__(
        self, pool: str, text: np.ndarray, profile: np.ndarray | None = None, recent: np.ndarray | None = None
    ) -> Batch:
        ids = [self.ids[pool][t] for t in text]
        if profile is not None and recent is not None:
            of_users = user_tokens(recent, profile, self.tokens, self.vocabulary.first_profile)
            ids = [user + query for user, query in zip(of_users, ids, strict=True)]
        prompt, mask = pad(ids, side="left")
        return {"ids": torch.from_numpy(prompt), "mask": torch.from_numpy(mask)}
