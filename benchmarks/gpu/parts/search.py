"""The search alone, at Qwen2.5-0.5B's size: replays of the captured graph by the clock of the device and as a share of
what the device could do, the call as an engine makes it (host included), Hugging Face's `generate` on the same card.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import hugging_face
from benchmarks.gpu import roofline
from benchmarks.gpu.bench import Bench, Row, times, wall_times
from benchmarks.models import SHAPES, Shape, build_generator, random_model, random_space
from benchmarks.random_bundle import TINY
from genrecall.decoding import GeneratedSids, Generator
from genrecall.decoding.heads import Normalizer
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.decoding.search import Beams, Prefix, beam_search
from inference_server.engines.cuda_graphs import CapturedSearch, repeated
from inference_server.engines.torch_engine import StaticSearch

LENGTH, WIDTH = 128, 50
BATCHES, WIDTHS = (1, 8, 32, 64), (20, 100, 256)
HF_SECONDS = 8.0

Find = Callable[[Prefix, int], Beams]


class Sides:
    """One set of random weights, and the generators over it."""

    def __init__(self, bench: Bench, shape: Shape, dtype: torch.dtype | None = None) -> None:
        self.bench, self.shape = bench, shape
        self.model = random_model(shape, bench.device, dtype or bench.dtype)
        self.space = random_space(shape)
        self.capture = None if bench.cuda else repeated

    def generator(self, normalizer: Normalizer = "children") -> Generator:
        """Another one over the same weights."""
        return build_generator(self.model, self.space, normalizer, served=True)

    def prompts(self, batch: int, length: int = LENGTH, seed: int = 1) -> list[TokenizedPrompt]:
        rng = np.random.default_rng(seed)
        return [TokenizedPrompt(row) for row in rng.integers(0, self.shape.text_tokens, (batch, length)).tolist()]

    @cached_property
    def after(self) -> hugging_face.Trie:
        return hugging_face.trie(self.space, self.generator().heads.offsets)

    def hugging_face(self) -> hugging_face.Search:
        return hugging_face.allowed_fn(self.model, self.after)


def run(bench: Bench) -> None:
    sides = Sides(bench, TINY if bench.small else SHAPES["0.5b"])
    able = roofline.ceilings(bench.device, bench.dtype)
    seconds, most = (0.05, 3) if bench.small else (1.5, 400)
    length, width = (16, 8) if bench.small else (LENGTH, WIDTH)
    batches, widths = ((1, 8), (20,)) if bench.small else (BATCHES, WIDTHS)
    generator = sides.generator()
    find = CapturedSearch(generator, sides.capture)

    def replays(of: Generator, by: Find, batch: int, beams: int, size: float = sides.model.dtype.itemsize) -> Row:
        with torch.inference_mode():
            prefix = of.prefix(sides.prompts(batch, length))
            taken = times(lambda: by(prefix, beams), bench.device, seconds, most)
        read, flop = roofline.counted(sides.shape, batch, length, beams, size)
        floor = roofline.floor_ms(able, read, flop)
        figures = {"floor_ms": round(floor, 3), "share_of_roofline": round(floor / taken["p50_ms"], 3)}
        return {**taken, "per_s": round(batch * 1e3 / taken["p50_ms"], 1), **figures}

    def row(side: str, of: Generator, by: Find, batch: int, beams: int, *more: float) -> Row | None:
        labels = {"side": side, "B": batch, "S": length, "W": beams}
        return bench.measure("search", labels, replays, of, by, batch, beams, *more)

    def eager(prefix: Prefix, beams: int) -> Beams:
        return beam_search(generator.decoder, generator.heads, generator.tables, prefix, beams)

    row("captured, matrices apart", generator, find, 1, width)
    row("eager", generator, eager, 1, width)
    generator.decoder.pack()
    find = CapturedSearch(generator, sides.capture)
    first = row("captured", generator, find, 1, width)
    engine = StaticSearch(sides.generator(), capture=sides.capture)
    for batch in (1, batches[-1]):
        prompts = itertools.cycle([sides.prompts(batch, length, seed) for seed in range(4)])
        labels = {"side": "captured, ids to SIDs on the host", "B": batch, "S": length, "W": width}
        bench.measure("search", labels, wall_times, partial(turn, engine, prompts, width), seconds, most)
    baseline = {"side": "Hugging Face, prefix_allowed_tokens_fn", "B": 1, "S": length, "W": width}
    slow = bench.measure(
        "search", baseline, hf, sides, 1, length, width, 2 if bench.small else 20, needs=12 if bench.cuda else 1
    )
    if first and slow:
        bench.add("against Hugging Face", B=1, times_as_fast=round(slow["p50_ms"] / first["p50_ms"], 1))
    for batch in batches[1:]:
        row("captured", generator, find, batch, width)
    for beams in widths:
        row("captured", generator, find, 1, beams)
    for backend in (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH):
        if bench.cuda or backend is SDPBackend.MATH:
            with sdpa_kernel(backend):
                by = CapturedSearch(generator, sides.capture)
                labels = {"side": f"captured, {backend.name.lower()}", "B": 1, "S": length, "W": width}
                bench.measure("search", labels, unless_missing, replays, generator, by, 1, width)
    if bench.cuda:
        light = sides.generator()
        StaticSearch(light, float8=True)
        row("captured, float8", light, CapturedSearch(light), 1, width, 1)
        row("captured, float8", light, CapturedSearch(light), 32, width, 1)
        bench.measure("streams", {"B": 1, "S": length, "W": width}, two_streams, sides, generator, length, width)
    baseline["B"] = batches[1]
    bench.measure("search", baseline, hf, sides, batches[1], length, width, 2, needs=25 if bench.cuda else 1)


def unless_missing(replays: Callable[..., Row], *args: Any) -> Row:
    """A row that says so where torch has no such attention for these shapes."""
    try:
        return replays(*args)
    except RuntimeError as error:
        if "No available kernel" not in str(error):
            raise
        return {"note": "not for these shapes"}


def turn(engine: StaticSearch, prompts: Iterator[list[TokenizedPrompt]], width: int) -> GeneratedSids:
    return engine(next(prompts), width)


def hf(sides: Sides, batch: int, length: int, width: int, most: int) -> Row:
    search = sides.hugging_face()
    ids = torch.tensor([prompt.tokens for prompt in sides.prompts(batch, length)], device=sides.bench.device)
    with torch.inference_mode():
        return wall_times(lambda: search(ids, width), HF_SECONDS, most, warm_ups=1)


def two_streams(sides: Sides, generator: Generator, length: int, width: int, calls: int = 100) -> Row:
    """Replays a second: all in one stream, and by turns in two, each with graphs of its own."""
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    finds = [CapturedSearch(generator), CapturedSearch(generator)]
    found = {}
    with torch.inference_mode():
        prefix = generator.prefix(sides.prompts(1, length))
        for used in (1, 2):
            for _ in range(2):  # the first time captures
                with timed_on_device() as taken:
                    for n in range(calls):
                        with torch.cuda.stream(streams[n % used]):
                            finds[n % used](prefix, width)
            found[f"{used}_per_s"] = round(calls / taken[0], 1)
    return found


@contextmanager
def timed_on_device() -> Iterator[list[float]]:
    """Seconds of the block, all streams done."""
    torch.cuda.synchronize()
    began, taken = time.perf_counter(), [0.0]
    yield taken
    torch.cuda.synchronize()
    taken[0] = time.perf_counter() - began
