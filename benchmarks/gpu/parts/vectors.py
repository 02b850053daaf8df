"""A catalogue of a million items on the device: texts to vectors, vectors to codes. Aim: three minutes together."""

from __future__ import annotations

import itertools
import time

import numpy as np
import torch

from benchmarks.gpu.bench import Bench, Row, synchronize
from benchmarks.gpu.parts.shop import random_encoder
from benchmarks.random_bundle import shop_texts
from genrecall.config.quantizer import CqSidSection, QuantizerSection
from genrecall.decoding.text_encoder import TextEncoder
from trainer.quantizer import fit

MILLION = 1_000_000
DIM = 384


def run(bench: Bench) -> None:
    titles, _ = shop_texts()
    random_encoder(bench.folder / "encoder", titles, bench.small)
    texts, items = (500, 2_000) if bench.small else (200_000, MILLION)
    for dtype in (torch.float32, torch.bfloat16) if bench.cuda else (torch.float32,):
        labels = {"texts": texts, "weights": str(dtype).removeprefix("torch.")}
        bench.measure("embedding", labels, embedded, bench, titles, texts, dtype, needs=10)
    rng = np.random.default_rng(0)
    vectors = clustered(items, 16 if bench.small else DIM, rng)
    bench.measure("quantizer", {"kind": "hierarchical", "items": items}, hierarchical, bench, vectors, needs=20)
    some = vectors[: items // (4 if bench.small else 10)]
    labels = {"kind": "cq_sid, shared codebooks, an epoch", "items": len(some)}
    bench.measure("quantizer", labels, cq_sid, bench, some, needs=15)


def embedded(bench: Bench, titles: list[str], count: int, dtype: torch.dtype) -> Row:
    encoder = TextEncoder.load(bench.folder / "encoder", 64, bench.device, dtype)
    texts = [f"{title} {n}" for n, title in zip(range(count), itertools.cycle(titles), strict=False)]
    encoder.encode(texts[:100])
    synchronize(bench.device)
    began = time.perf_counter()
    for at in range(0, count, 50_000):
        encoder.encode(texts[at : at + 50_000], batch_tokens=262_144 if bench.cuda else 8192).cpu()
    return per_million(count, time.perf_counter() - began)


def hierarchical(bench: Bench, vectors: np.ndarray) -> Row:
    began = time.perf_counter()
    fitted = fit("hierarchical", vectors, [[]] * len(vectors), None, QuantizerSection(), 13, False, bench.device)
    taken = time.perf_counter() - began
    return {**per_million(len(vectors), taken), "sids": len(fitted.space)}


def cq_sid(bench: Bench, vectors: np.ndarray) -> Row:
    sizes = (16, 8, 8) if bench.small else (2048, 1024, 1024)
    own = CqSidSection(codebooks="shared", level_sizes=sizes, warmup_epochs=0, epochs=1, batch_size=1024)
    section = QuantizerSection(cq_sid=own)
    began = time.perf_counter()
    fitted = fit("cq_sid", vectors, [[]] * len(vectors), None, section, 13, False, bench.device)
    taken = time.perf_counter() - began
    return {**per_million(len(vectors), taken), "sids": len(fitted.space)}


def per_million(count: int, seconds: float) -> Row:
    return {"seconds": round(seconds, 2), "seconds_a_million": round(seconds * MILLION / count, 1)}


def clustered(rows: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [rows, dim], unit norm, in a few thousand clusters, as catalogues are."""
    centres = rng.standard_normal((max(8, rows // 300), dim), dtype=np.float32)
    x = centres[rng.integers(len(centres), size=rows)] + 0.5 * rng.standard_normal((rows, dim), dtype=np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)
