"""Training of the `encoder` kind: one mixed stage over cached text vectors.

Deviations from the paper, numbered:
1. No language model: a frozen sentence encoder's pooled vector is the prefix of a small decoder, for CPUs and small
shops. 2. Stages 1 and 2 are one: synthetic queries, standing for the items, are mixed with the real ones, half and
half. 3. Two SIDs are sampled for a query, by grade, where the paper has three by click or purchase. 4. The prefix
prior lets the vectors of the items speak before anything is learned (`genrecall.decoding.prior`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrecall.decoding.constraint import ConstraintTables
from genrecall.decoding.layout import ENCODER, GeneratorBlock, space_fingerprint
from genrecall.decoding.prior import PrefixPrior, node_means
from genrecall.decoding.text_encoder import TextEncoder
from genrecall.embeddings import embed
from trainer.generator.encoder_model import EncoderModel, decoder_config
from trainer.generator.job import Job, training_device
from trainer.generator.loop import Batch, Stage, run_stage
from trainer.generator.loss import paths_of


def train_encoder(job: Job, work: Path, out: Path) -> dict[str, Any]:
    """Train in `work`, write the generator's folder to `out`, return the metrics."""
    section = job.section.encoder
    device = training_device()
    tables = ConstraintTables.build(job.space, device)
    sizes, dim = job.space.level_sizes, job.item_vectors.shape[1]
    config = decoder_config(job.section.decoder, sum(sizes), tied=False)
    prior = make_prior(job, config.hidden_size) if section.prior else None
    model = EncoderModel(config, dim, sizes, tables, prior, job.section.decoder.dropout).to(device)

    vectors, paths = torch.from_numpy(text_vectors(job)), paths_of(job.space)
    draw = job.drawer(section.stage, job.query_shares())

    def batch(step: int) -> Batch:
        text, sid = draw(step)
        return {"text": vectors[text], "path": paths[sid]}

    stage = Stage("encoder.stage", section.stage, batch, dev_measure(job, model))
    learned = run_stage(model, stage, work, job.seed, job.progress)
    block = GeneratorBlock(
        "encoder", sizes, 0, "children", prior is not None, job.encoder.max_tokens, space_fingerprint(job.space)
    )
    model.save(out, block)
    encoder = TextEncoder.load(job.encoder.checkpoint, job.encoder.max_tokens)
    encoder.save(out / ENCODER, dtype=getattr(torch, section.store))
    parameters = sum(p.numel() for p in model.parameters())
    return {**job.describe(), "prior": prior is not None, "parameters": parameters, "stages": {"mixed": learned}}


def make_prior(job: Job, hidden_size: int) -> PrefixPrior:
    """A prior at its start: node means and sizes of the catalogue."""
    means, counts = node_means(job.space, job.rows, job.item_vectors)
    prior = PrefixPrior((len(means[0]), len(means[1]), len(means[2])), job.item_vectors.shape[1], hidden_size)
    prior.fill(means, counts)
    return prior


def text_vectors(job: Job) -> np.ndarray:
    """float32 [texts, dim] of the examples; the items' own texts are embedded already."""
    first, _ = job.examples.groups["title"]
    if not first:
        return job.item_vectors
    queries = embed(job.examples.texts[:first], job.encoder, job.cache_dir, job.progress)
    return np.concatenate([queries, job.item_vectors])


def dev_measure(job: Job, model: EncoderModel) -> Any:
    """The dev recall of `model` as it is; None without dev queries."""
    dev = job.dev()
    if dev is None:
        return None
    text = torch.from_numpy(embed(job.held_out.texts, job.encoder, job.cache_dir, job.progress)).to(training_device())
    return lambda: dev.measure(model.backbone, model.heads, model.tables, model.prefix(text))
