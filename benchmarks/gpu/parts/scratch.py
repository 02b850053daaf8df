"""A language model of some thirty million parameters trained from scratch on a generated shop, its recall beside that
of kind `encoder`, and what lighter weights cost in recall. Queries are synthetic and judged by construction: simulated.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.gpu.bench import Bench, Row
from benchmarks.gpu.parts.shop import GeneratedShop
from genrecall.config.generator import (
    DecoderSection,
    DevSection,
    EncoderKindSection,
    GeneratorSection,
    LmKindSection,
    SamplingSection,
    StageSection,
)
from genrecall.decoding import GeneratedSids, Generator
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.expansion import SidItems
from inference_server.engines.cuda_graphs import repeated
from inference_server.engines.torch_engine import StaticSearch
from trainer.generator import train_generator
from trainer.generator.dev import graded_recall
from trainer.generator.examples import judged_items

WIDTH, BATCH = 50, 32
DECODER = DecoderSection(layers=8, hidden=512, intermediate=1536, heads=8, kv_heads=8)
SMALL = DecoderSection(layers=1, hidden=32, intermediate=48, heads=2, kv_heads=2)
TRIAL_STEPS = 20
Search = Callable[[list[TokenizedPrompt], int], GeneratedSids]


def run(bench: Bench) -> None:
    items, queries = (1000, 200) if bench.small else (20_000, 4_000)
    shop = GeneratedShop.make(bench.folder, items, queries, bench.small)
    steps = 5 if bench.small else 300
    stage = StageSection(steps=steps, batch=64 if bench.small else 512, evaluate_every=max(5, steps // 6))
    section = GeneratorSection(kind="encoder", encoder=EncoderKindSection(stage=stage), dev=dev(bench))
    bench.measure("recall", {"kind": "encoder"}, trained, bench, shop, section, "encoder", needs=20)
    seconds = 1.0 if bench.small else step_seconds(bench, shop)
    steps = 10 if bench.small else max(100, int(0.6 * bench.left / seconds))
    bench.measure("recall", {"kind": "lm"}, trained, bench, shop, lm(bench, steps), "lm", needs=30)
    for dtype in ("bfloat16", "float16", "float8"):
        labels = {"kind": "lm", "weights": dtype}
        if (bench.folder / "lm").is_dir():
            bench.measure("recall by weights", labels, lighter, bench, shop, dtype, needs=5)


def lm(bench: Bench, steps: int) -> GeneratorSection:
    """A sixth of the steps for stage 1, the others for stage 2."""
    every = max(5, steps // 8)
    stages = [
        StageSection(steps=n, batch=16 if bench.small else 256, lr=1e-3, evaluate_every=every)
        for n in (steps // 6, steps)
    ]
    return GeneratorSection(
        kind="lm",
        decoder=SMALL if bench.small else DECODER,
        lm=LmKindSection(bpe_size=1000 if bench.small else 8000, item_stage=stages[0], query_stage=stages[1]),
        sampling=SamplingSection(synthetic_per_item=1 if bench.small else 3),
        dev=dev(bench),
    )


def dev(bench: Bench) -> DevSection:
    return DevSection(beam_width=10 if bench.small else WIDTH, max_queries=20 if bench.small else 200)


def step_seconds(bench: Bench, shop: GeneratedShop) -> float:
    """Of stage 2, from a short trial."""
    section = lm(bench, TRIAL_STEPS)
    learned = train_generator(
        shop.training_data(users=False), shop.settings(section), bench.folder / "trial", bench.folder / "trial-work"
    )
    return float(learned["stages"]["query"]["seconds"]) / TRIAL_STEPS


def trained(bench: Bench, shop: GeneratedShop, section: GeneratorSection, name: str) -> Row:
    """Train, and the recall of test queries through the folder that a bundle would hold."""
    began = time.perf_counter()
    folder = bench.folder / name
    learned = train_generator(
        shop.training_data(users=False), shop.settings(section), folder, bench.folder / f"{name}-work"
    )
    seconds = time.perf_counter() - began
    generator = Generator.load(folder, shop.fitted.space, bench.device)
    found = recall(generator, generator.search, shop)
    steps = sum(stage["steps"] for stage in learned["stages"].values())
    about = {"parameters": learned["parameters"], "steps": steps, "seconds": round(seconds, 1)}
    generator.evidence = None
    alone = recall(generator, generator.search, shop)
    return {**about, "simulated": True, "recall@50": found, "of the decoder alone": alone}


def lighter(bench: Bench, shop: GeneratedShop, dtype: str) -> Row:
    of = torch.float16 if dtype == "float16" else torch.bfloat16
    generator = Generator.load(bench.folder / "lm", shop.fitted.space, bench.device, of)
    engine = StaticSearch(generator, float8=dtype == "float8", capture=None if bench.cuda else repeated)
    generator.evidence = None  # it computes in float32 whatever the decoder does
    return {"simulated": True, "of the decoder alone": recall(generator, engine, shop)}


def recall(generator: Generator, search: Search, shop: GeneratedShop) -> float:
    """Graded recall of the test queries, over the first 50 items of the SIDs found, those of a SID in any order."""
    fitted, data = shop.fitted, shop.dataset
    judged = judged_items(shop.split.test, data.items, data.queries, 500)
    items = SidItems.of(fitted.space.index_of(fitted.codes), len(fitted.space))
    prompts = generator.request_tokenizer(judged.texts)
    found: list[float] = []
    for at in range(0, len(prompts), BATCH):
        of = search(prompts[at : at + BATCH], WIDTH)
        for codes, scores, valid in zip(of.codes, of.scores, of.valid, strict=True):
            ranked, _ = items.rank(fitted.space.index_of(codes[valid]), scores[valid], WIDTH)
            own = slice(judged.start[len(found)], judged.start[len(found) + 1])
            found.append(graded_recall(ranked, judged.item[own], judged.grade[own]))
    return round(float(np.mean(found)), 4)
