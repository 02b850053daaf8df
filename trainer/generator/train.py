"""Queries -> SIDs: the training of a generator, from tables to its folder in the bundle.

The page that reads as the recipe; the parts are next door: `examples` and `requests` (what is learned from),
`encoder_kind` and `lm_kind` (what learns), `stages` and `loop` (how), `dev` (how it is judged).
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
from trainer.generator.requests import Requests, profiles_of


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
    requests: tuple[pa.Table, pa.Table] | None = None,
) -> dict[str, Any]:
    """Train a generator for the SIDs of `space` and write it to `out`, whole or not at all.

    Args:
        codes: int32 [n, 3], the SID of each row of `items` (ITEMS); item_vectors: float32 [n, dim], unit norm.
        train: JUDGMENTS to learn from, may be empty; dev: JUDGMENTS that early stopping looks at, may be empty.
        queries: QUERIES, the texts of both.
        work: checkpoints, a folder a stage, named by everything that it depends on; a run resumes there.
        requests: REQUESTS to learn from and to hold out, for stages 3 and 4; None where there are no logs.

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
    job = Job(
        *(section, encoder, space, rows, item_vectors, examples, held_out, seed, cache_dir, progress),
        *logged(requests, items, rows, section, seed),
    )
    if section.kind == "lm":
        from trainer.generator.lm_kind import train_lm as train_kind
    else:
        from trainer.generator.encoder_kind import train_encoder as train_kind
    torch.manual_seed(seed)
    made = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    try:
        metrics = train_kind(job, work, made)
        for file in made.rglob("*"):  # safetensors writes for the owner alone; a server may be another user
            file.chmod(file.stat().st_mode | 0o044)
        shutil.rmtree(out, ignore_errors=True)
        os.rename(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return metrics


def logged(
    requests: tuple[pa.Table, pa.Table] | None, items: pa.Table, rows: np.ndarray, section: GeneratorSection, seed: int
) -> tuple[Requests | None, Requests | None, tuple[str, ...]]:
    """Requests to learn from and to judge by (a sample of at most `dev.max_queries` that want something); profiles.

    None where there are no logs, or no stage that learns from them.
    """
    if requests is None or not (section.user.stage.steps or section.alignment.steps):
        return None, None, ()
    profiles = profiles_of(requests[0])
    train, dev = (Requests.of(table, items, rows, profiles) for table in requests)
    wanted = np.flatnonzero(dev.wanted)
    chosen = np.random.default_rng(seed).permutation(wanted)[: section.dev.max_queries]
    return (train if train.wanted.any() else None), dev.take(np.sort(chosen)), profiles
