"""torch.compile against hand capture: the layers fused by Inductor inside our graph, and the whole search by Inductor
with CUDA graphs of its own. Compiling takes a minute, which is why this comes late.
"""

from __future__ import annotations

import time

import torch

from benchmarks.gpu.bench import Bench, Row, times
from benchmarks.gpu.parts.search import LENGTH, WIDTH, Find, Sides
from benchmarks.models import SHAPES, Shape
from genrecall.decoding import Generator
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.decoding.search import Beams, Prefix, beam_search
from inference_server.engines.cuda_graphs import CapturedSearch
from inference_server.engines.torch_engine import StaticSearch, compile_layers

TINIEST = Shape(2, 32, 64, 4, 4, 100, (8, 8, 8), 200)


def run(bench: Bench) -> None:
    sides = Sides(bench, TINIEST if bench.small else SHAPES["0.5b"])
    batches = (1,) if bench.small else (1, 32)
    length, width = (8, 4) if bench.small else (LENGTH, WIDTH)
    reference = sides.generator()
    backend = "inductor" if bench.cuda else "aot_eager"  # without a GPU the compiler alone would take minutes
    generators = {
        "captured by hand": (sides.generator(), False, False),
        "layers compiled, captured by hand": (sides.generator(), False, True),
        "float8, layers compiled, captured by hand": (sides.generator(), True, True),
    }
    for side, (generator, float8, compiled) in generators.items():
        StaticSearch(generator, float8, capture=sides.capture)  # packs and rounds, in place
        if compiled:
            compile_layers(generator.decoder, backend)
        find = CapturedSearch(generator, sides.capture)
        for batch in batches:
            labels = {"side": side, "B": batch, "S": length, "W": width}
            prompts = sides.prompts(batch, length)
            bench.measure("fused", labels, timed, bench, reference, find, prompts, width, needs=20)
    generator = sides.generator()
    generator.decoder.pack()
    mode = "reduce-overhead" if bench.cuda else None

    @torch.compile(dynamic=False, mode=mode, backend=backend)
    def whole(embeds: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = beam_search(generator.decoder, generator.heads, generator.tables, Prefix(embeds, mask), width)
        return found.sid, found.scores, found.valid

    def search(prefix: Prefix, width: int) -> Beams:
        torch.compiler.cudagraph_mark_step_begin()
        return Beams(*whole(prefix.embeds, prefix.mask))

    labels = {"side": "the whole search compiled, with graphs of its own", "B": 1, "S": length, "W": width}
    prompts, needs = sides.prompts(1, length), 60 if bench.cuda else 1
    bench.measure("fused", labels, timed, bench, reference, search, prompts, width, needs=needs)


def timed(bench: Bench, reference: Generator, find: Find, prompts: list[TokenizedPrompt], width: int) -> Row:
    """`reference` is eager and in the precision of the benchmark."""
    with torch.inference_mode():
        prefix = reference.prefix(prompts)
        began = time.perf_counter()
        found = find(prefix, width)
        first_s = time.perf_counter() - began
        expected = beam_search(reference.decoder, reference.heads, reference.tables, prefix, width)
        best = (found.scores[:, 0] - expected.scores[:, 0]).abs().max().item()
        taken = times(lambda: find(prefix, width), bench.device, *((0.05, 3) if bench.small else (1.5, 400)))
    return {**taken, "first_call_s": round(first_s, 1), "best_score_differs_by": round(best, 4)}
