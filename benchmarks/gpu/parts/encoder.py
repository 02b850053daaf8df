"""The demo's kind of generator, trained for moments on a generated shop: the same answers as on the CPU, and its speed.

It is loaded from the bundle's folder as a server loads it, so that whatever a generator of this kind has comes along.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from benchmarks.gpu.bench import Bench, Row, times, wall_times
from benchmarks.gpu.parts.parity import EXACT, same
from benchmarks.gpu.parts.shop import GeneratedShop
from genrecall.config.generator import EncoderKindSection, GeneratorSection, StageSection
from genrecall.decoding import GeneratedSids, Generator
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from inference_server.engines.cuda_graphs import repeated
from inference_server.engines.torch_engine import StaticSearch
from trainer.generator import train_generator

WIDTH = 50


def run(bench: Bench) -> None:
    items, queries, steps = (1000, 200, 5) if bench.small else (20_000, 2_000, 100)
    shop = GeneratedShop.make(bench.folder, items, queries, bench.small)
    stage = StageSection(steps=steps, batch=64 if bench.small else 512, evaluate_every=max(5, steps // 4))
    section = GeneratorSection(kind="encoder", encoder=EncoderKindSection(stage=stage))
    folder = bench.folder / "generator"
    learned = train_generator(shop.training_data(users=False), shop.settings(section), folder, bench.folder / "work")
    stages = learned["stages"]["mixed"]
    bench.add("trained", simulated=True, steps=stages["steps"], seconds=stages["seconds"])

    texts = shop.dataset.queries["text"].to_pylist()[:64]
    exact = Generator.load(folder, shop.fitted.space)
    served = Generator.load(folder, shop.fitted.space, bench.device)
    engine = StaticSearch(served, capture=None if bench.cuda else repeated)

    def parity(gate: float) -> Row:
        prompts = [replace(prompt, gate=gate) for prompt in exact.request_tokenizer(texts[:8])]
        found, expected = engine(prompts, WIDTH), exact.search(prompts, WIDTH)
        row = {"differs_by": largest_difference(found, expected), "same_as_cpu": same(found.codes, expected.codes)}
        if row["differs_by"] > EXACT:
            raise RuntimeError(f"the answers differ: {row}")
        return row

    for decoder, gate in (("silent", 0.0), ("asked", 0.3)):
        bench.measure("parity", {"B": 8, "W": WIDTH, "decoder": decoder}, parity, gate)
    seconds, most = (0.05, 3) if bench.small else (1.0, 300)

    def parts(prompts: list[TokenizedPrompt]) -> Row:
        with torch.inference_mode():
            prefix = served.prefix(prompts)
            embedded = times(lambda: served.prefix(prompts), bench.device, seconds, most)
            searched = times(lambda: engine.captured(prefix, WIDTH), bench.device, seconds, most)
        whole = wall_times(lambda: engine(prompts, WIDTH), seconds, most)
        return {
            **whole,
            "prefix_p50_ms": embedded["p50_ms"],
            "search_p50_ms": searched["p50_ms"],
            "per_s": round(len(prompts) * 1e3 / whole["p50_ms"], 1),
        }

    for batch in (1, 32) if bench.small else (1, 8, 32, 64):
        prompts = served.request_tokenizer(texts[:batch])
        for decoder, gate in (("silent", 0.0), ("asked", 0.3)):
            asked = [replace(prompt, gate=gate) for prompt in prompts]
            bench.measure("speed", {"B": batch, "W": WIDTH, "decoder": decoder}, parts, asked)


def largest_difference(found: GeneratedSids, expected: GeneratedSids) -> float:
    valid = found.valid & expected.valid
    return round(float(np.abs(found.scores[valid] - expected.scores[valid]).max()), 6)
