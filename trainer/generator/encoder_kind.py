"""Training of the `encoder` kind: one mixed stage over cached text vectors, then users, then alignment.

Deviations from the paper, numbered:
1. No language model: a frozen sentence encoder's pooled vector is the prefix of a small decoder, for CPUs and small
shops. 2. Stages 1 and 2 are one: synthetic queries, standing for the items, are mixed with the real ones, half and
half. 3. Two SIDs are sampled for a query, by grade, where the paper has three by click or purchase. 4. The prefix
prior lets the vectors of the items speak before anything is learned (`genrecall.decoding.dense_prior`). 5. A user's
recent SIDs are one embedding each (`genrecall.decoding.user`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrecall.decoding.config import ENCODER, GeneratorConfig, space_fingerprint
from genrecall.decoding.dense_prior import DensePrior, node_means
from genrecall.decoding.tables import ConstraintTables
from genrecall.decoding.text_encoder import TextEncoder
from genrecall.decoding.user import UserPrefix
from genrecall.embeddings import embed
from trainer.generator.encoder_model import EncoderModel, decoder_config
from trainer.generator.job import Job, training_device
from trainer.generator.logged_stages import logged_stages
from trainer.generator.loop import Batch
from trainer.generator.stages import dev_of_queries, text_stage


def train_encoder(job: Job, work: Path, out: Path) -> dict[str, Any]:
    """Train in `work`, write the generator's folder to `out`, return the metrics."""
    section = job.section.encoder
    device = training_device()
    tables = ConstraintTables.build(job.space, device)
    sizes, dim = job.space.level_sizes, job.item_vectors.shape[1]
    config = decoder_config(job.section.decoder, sum(sizes), tied=False)
    prior = make_prior(job, config.hidden_size) if section.prior else None
    user = make_user(job, config.hidden_size, dim) if job.user else None
    model = EncoderModel(config, dim, sizes, tables, prior, job.section.decoder.dropout, user).to(device)
    inputs = VectorInputs(job)

    mixed, with_user, aligned = job.keys(section, job.section.user, job.section.alignment)
    stages = {
        "mixed": text_stage(
            *("encoder.stage", 2, job, model, inputs, section.stage, job.query_shares()),
            dev_of_queries(job, model, inputs),
            work / f"mixed-{mixed}",
        )
    }
    stages |= logged_stages(job, model, inputs, work, with_user, aligned)

    block = GeneratorConfig(
        *("encoder", sizes, 0, "children", prior is not None, job.encoder.max_tokens, space_fingerprint(job.space)),
        user=job.user,
    )
    model.save(out, block)
    encoder = TextEncoder.load(job.encoder.checkpoint, job.encoder.max_tokens)
    encoder.save(out / ENCODER, dtype=getattr(torch, section.store))
    parameters = sum(p.numel() for p in model.parameters())
    return {**job.describe(), "prior": prior is not None, "parameters": parameters, "stages": stages}


def make_user(job: Job, hidden_size: int, dim: int) -> UserPrefix:
    """What reads users; their SIDs have vectors where there is a prior to hold them."""
    return UserPrefix(len(job.profiles), hidden_size, dim if job.section.encoder.prior else None)


class VectorInputs:
    """`stages.Inputs` of this kind: rows of cached vectors. The items' own texts are embedded already."""

    def __init__(self, job: Job) -> None:
        first, _ = job.examples.groups["title"]
        self.vectors = {}
        for name, texts in job.pools():
            wanted, known = (texts[:first], [job.item_vectors]) if name == "examples" else (texts, [])
            parts = [*([embed(wanted, job.encoder, job.cache_dir, job.progress)] if wanted else []), *known]
            if parts:
                self.vectors[name] = torch.from_numpy(np.concatenate(parts))

    def __call__(
        self, pool: str, text: np.ndarray, profile: np.ndarray | None = None, recent: np.ndarray | None = None
    ) -> Batch:
        found = {"text": self.vectors[pool][torch.from_numpy(text)]}
        if profile is not None and recent is not None:
            found |= {"profile": torch.from_numpy(profile), "recent": torch.from_numpy(recent)}
        return found


def make_prior(job: Job, hidden_size: int) -> DensePrior:
    """A prior at its start: node means and sizes of the catalogue."""
    means, counts = node_means(job.space, job.rows, job.item_vectors)
    prior = DensePrior((len(means[0]), len(means[1]), len(means[2])), job.item_vectors.shape[1], hidden_size)
    prior.fill(means, counts)
    return prior
