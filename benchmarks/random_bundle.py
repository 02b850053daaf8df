"""A bundle with random weights and a tokenizer of a simulated shop, as serving speed needs no training, and queries."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from benchmarks.models import Shape, random_model, random_space
from genrecall import bundle
from genrecall.decoding.config import GeneratorConfig, space_fingerprint
from simulation import synthesize
from simulation.config import ShopSection
from trainer.export.attach import attach_onnx
from trainer.generator.lm_model import train_tokenizer

QUERIES = 400
TINY = Shape(2, 32, 64, 4, 4, 8_000, (128, 32, 32), 13_000)
"""The small model's codebook behind a model that takes next to no time."""


def shop_texts() -> tuple[list[str], list[str]]:
    """Titles and queries of a simulated shop, always the same: queries of 1 to about 10 words."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "shop"
        synthesize(ShopSection(items=3000, queries=QUERIES, sessions=1), shop)
        with gzip.open(shop / "items.jsonl.gz", "rt", encoding="utf-8") as items:
            titles = [json.loads(line)["title"] for line in items]
        lines = (shop / "queries.tsv").read_text(encoding="utf-8").splitlines()
    return titles, [line.split("\t")[1] for line in lines]


def publish(
    root: Path,
    shape: Shape,
    titles: list[str],
    queries: list[str],
    onnx: bool,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    codebook: str = "v1",
) -> bundle.Bundle:
    """`root/<codebook>`, one item a SID; with its ONNX export where `onnx`, compared with torch on a few queries.

    device: where the weights are drawn; dtype: in which they are kept.
    """
    space = random_space(shape)
    contents = bundle.Contents([f"item-{n}" for n in range(len(space))], space.sids, shape.level_sizes, kind="lm")
    published = bundle.publish(
        root,
        codebook,
        contents,
        lambda folder: _write_generator(folder / bundle.GENERATOR, shape, titles, device, dtype),
    )
    if onnx:
        attach_onnx(published, "float32", queries[:16])
    return published


def _write_generator(folder: Path, shape: Shape, titles: list[str], device: str, dtype: torch.dtype) -> None:
    model, space = random_model(shape, device, dtype), random_space(shape)
    block = GeneratorConfig(
        kind="lm",
        level_sizes=space.level_sizes,
        base=shape.text_tokens,
        normalizer="children",
        prior=False,
        max_tokens=64,
        space=space_fingerprint(space),
        lowercase=True,
    )
    model.config.genrecall = block.write()
    disable_progress_bar()
    model.save_pretrained(folder)
    train_tokenizer(titles, shape.text_tokens).save_pretrained(folder)
