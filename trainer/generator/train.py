"""Queries -> SIDs: the training of a generator, from tables to its folder in the bundle.

The page that reads as the recipe; the parts are next door: `examples` (what is learned from), `encoder_kind` and
`lm_kind` (what learns), `loop` (how), `dev` (how it is judged).
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from genrecall.config.encoder import EncoderSection
from genrecall.config.generator import GeneratorSection
from genrecall.errors import UserError
from genrecall.sid import SidSpace
from trainer.generator.examples import examples_of, judged_items
from trainer.generator.job import Job


def train_generator(
    section: GeneratorSection,
    encoder: EncoderSection,
    space: SidSpace,
    codes: np.ndarray,
    items: pa.Table,
    item_vectors: np.ndarray,
    train: pa.Table,
    queries: pa.Table,
    dev: pa.Table,
    out: Path,
    work: Path,
    seed: int,
    cache_dir: Path,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a generator for the SIDs of `space` and write it to `out`, whole or not at all.

    Args:
        codes: int32 [n, 3], the SID of each row of `items` (ITEMS); item_vectors: float32 [n, dim], unit norm.
        train: JUDGMENTS to learn from, may be empty; dev: JUDGMENTS that early stopping looks at, may be empty.
        queries: QUERIES, the texts of both.
        work: checkpoints, in a folder named by everything that the training depends on; a run resumes there.

    Returns:
        metrics: kind, what was trained on (`queries` is "real", or "synthetic" for a shop without judgments), the
            stages.

    Raises UserError for tables that do not fit and for a loss that is no number.
    """
    rows = space.index_of(codes)
    if len(codes) != items.num_rows or len(item_vectors) != items.num_rows:
        raise UserError(
            f"{items.num_rows} items, but {len(codes)} codes and {len(item_vectors)} vectors: one each is needed"
        )
    if (rows < 0).any():
        raise UserError(
            f"{int((rows < 0).sum())} items have a SID outside the space: build the space from the same codes"
        )
    examples = examples_of(items, rows, train, queries, section.sampling, seed)
    held_out = judged_items(dev, items, queries, section.dev.max_queries)
    job = Job(section, encoder, space, rows, item_vectors, examples, held_out, seed, cache_dir, progress)
    if section.kind == "lm":
        from trainer.generator.lm_kind import train_lm as train_kind
    else:
        from trainer.generator.encoder_kind import train_encoder as train_kind
    torch.manual_seed(seed)
    made = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    try:
        metrics = train_kind(job, work / job.key(), made)
        for file in made.rglob("*"):  # safetensors writes for the owner alone; a server may be another user
            file.chmod(file.stat().st_mode | 0o044)
        shutil.rmtree(out, ignore_errors=True)
        os.rename(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return metrics
