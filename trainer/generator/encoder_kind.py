"""Training of the `encoder` kind: one mixed stage over cached text vectors, then users, then alignment.

Deviations from the paper, numbered:
1. No language model: a frozen sentence encoder's pooled vector is the prefix of a small decoder, for CPUs and small
shops. 2. Stages 1 and 2 are one: synthetic queries, which stand for the items, are mixed with the real ones, half and
half. 3. Two SIDs are sampled for a query, by grade, where the paper has three by click or purchase. 4. The dense
prior lets the vectors of the items speak before anything is learned (`genrecall.decoding.dense_prior`). 5. A user's
recent SIDs are one embedding each (`genrecall.decoding.user`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from genrecall.decoding.config import ENCODER, EvidenceConfig, GeneratorConfig, space_fingerprint
from genrecall.decoding.dense_prior import DensePrior, node_means
from genrecall.decoding.tables import ConstraintTables
from genrecall.decoding.text_encoder import TextEncoder
from genrecall.decoding.user_prefix import UserPrefix
from genrecall.embeddings import embed
from trainer.generator.context import TrainingContext, training_device
from trainer.generator.encoder_model import EncoderModel, decoder_config
from trainer.generator.loop import Batch
from trainer.generator.stages import Learner, TextStage


def encoder_learner(context: TrainingContext) -> Learner:
    """The model at its start, drawn from torch's global random numbers."""
    section, decoder, encoder = context.section.encoder, context.section.decoder, context.settings.encoder
    device, space, dim = training_device(context.settings), context.space, context.item_vectors.shape[1]
    config = decoder_config(decoder, sum(space.level_sizes), tied=False)
    prior = make_prior(context, config.hidden_size) if section.prior else None
    # a user's SIDs have vectors where there is a prior to hold them
    dim_of_sids = dim if section.prior else None
    user = UserPrefix(len(context.profiles), config.hidden_size, dim_of_sids) if context.user else None
    tables = ConstraintTables.build(space, device)
    model = EncoderModel(config, dim, space.level_sizes, tables, prior, decoder.dropout, user).to(device)

    def save(folder: Path, evidence: EvidenceConfig | None) -> None:
        generator = GeneratorConfig(
            kind="encoder",
            level_sizes=space.level_sizes,
            base=0,
            normalizer="children",
            prior=prior is not None,
            max_tokens=encoder.max_tokens,
            space=space_fingerprint(space),
            user=context.user,
            evidence=evidence,
        )
        model.save(folder, generator)
        prefixes = encoder.query_prefix, encoder.item_prefix
        frozen = TextEncoder.load(encoder.checkpoint, encoder.max_tokens, "cpu", torch.float32, *prefixes)
        frozen.save(folder / ENCODER, dtype=getattr(torch, section.store))

    inputs = VectorInputs(context)
    mixed = TextStage("mixed", "generator.encoder.stage", 2, section.stage, context.query_shares())
    return Learner(
        context=context,
        model=model,
        inputs=inputs,
        vectors=inputs.vectors,
        text_stages=(mixed,),
        save=save,
        depends_on=(section.prior,),
        metrics={"prior": prior is not None},
    )


class VectorInputs:
    """`stages.PrefixInputs` of this kind: rows of cached vectors. The items' own texts are embedded already."""

    def __init__(self, context: TrainingContext) -> None:
        settings = context.settings
        first, _ = context.examples.groups["title"]
        self.vectors = {}
        for name, texts in context.pools():
            missing, known = (texts[:first], [context.item_vectors]) if name == "examples" else (texts, [])
            made = (
                [embed(missing, "query", settings.encoder, settings.cache_dir, settings.progress, settings.device)]
                if missing
                else []
            )
            if parts := [*made, *known]:
                self.vectors[name] = torch.from_numpy(np.concatenate(parts))

    def __call__(
        self, pool: str, text: np.ndarray, profile: np.ndarray | None = None, recent: np.ndarray | None = None
    ) -> Batch:
        inputs = {"text": self.vectors[pool][torch.from_numpy(text)]}
        if profile is not None and recent is not None:
            inputs |= {"profile": torch.from_numpy(profile), "recent": torch.from_numpy(recent)}
        return inputs


def make_prior(context: TrainingContext, hidden_size: int) -> DensePrior:
    """A prior at its start: node means and sizes of the catalogue."""
    means, counts = node_means(context.space, context.rows, context.item_vectors)
    prior = DensePrior((len(means[0]), len(means[1]), len(means[2])), context.item_vectors.shape[1], hidden_size)
    prior.fill(means, counts)
    return prior
