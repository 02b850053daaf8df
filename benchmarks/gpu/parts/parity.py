"""The same answers everywhere: the captured graph, the eager search, the CPU and Hugging Face's `generate` in float32;
what lighter weights change; and the tests marked `gpu`.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from benchmarks import hugging_face
from benchmarks.gpu.bench import Bench, Row
from benchmarks.gpu.parts.search import Sides
from benchmarks.gpu.wheels import ROOT
from benchmarks.models import SHAPES, build_generator
from benchmarks.random_bundle import TINY
from genrecall.decoding import GeneratedSids, Generator
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from inference_server.engines.torch_engine import StaticSearch

EXACT = 1e-3  # largest difference of a log-probability in float32
SAME = 0.98  # of the SIDs: near-equal scores may change places at the end of the beam
TESTS = ("tests/decoding/test_gpu.py", "tests/engines/test_gpu.py")


def run(bench: Bench) -> None:
    sides = Sides(bench, TINY if bench.small else SHAPES["small"], torch.float32)
    for batch, length, width in ((1, 16, 50), (3, 9, 20), (8, 32, 100))[: 1 if bench.small else 3]:
        labels = {"B": batch, "S": length, "W": width}
        bench.measure("parity", labels, compared, sides, batch, length, width)
    bench.measure("tests", {}, tests, bench, needs=15)
    shape = TINY if bench.small else replace(SHAPES["0.5b"], sids=100_000)
    heavy = Sides(bench, shape, torch.float32)
    prompts = heavy.prompts(4 if bench.small else 32, 32)
    exact = StaticSearch(heavy.generator(), capture=heavy.capture)(prompts, 50)
    for dtype in ("bfloat16", "float16", "float8"):
        bench.measure("lighter weights", {"weights": dtype}, lighter, heavy, dtype, prompts, exact, needs=5)


def compared(sides: Sides, batch: int, length: int, width: int) -> Row:
    """Against the CPU, and the SIDs against `generate`. RuntimeError where they differ by more than rounding."""
    prompts = sides.prompts(batch, length)
    on_cpu = copy.deepcopy(sides.model).cpu()
    expected = build_generator(on_cpu, sides.space, "vocabulary", served=True).search(prompts, width)
    eager = sides.generator("vocabulary").search(prompts, width)
    captured = StaticSearch(sides.generator("vocabulary"), capture=sides.capture)(prompts, width)
    ids = torch.tensor([prompt.tokens for prompt in prompts], device=sides.bench.device)
    offsets = np.array(sides.generator().heads.offsets)
    with torch.inference_mode():
        theirs = hugging_face.allowed_fn(sides.model, sides.after)(ids, width) - offsets
    row = {
        "eager_differs_by": round(float(np.abs(eager.scores - expected.scores).max()), 6),
        "captured_differs_by": round(float(np.abs(captured.scores - expected.scores).max()), 6),
        "same_as_cpu": same(captured.codes, expected.codes),
        "same_as_hugging_face": same(captured.codes, theirs),
    }
    if max(row["eager_differs_by"], row["captured_differs_by"]) > EXACT or row["same_as_hugging_face"] < SAME:
        raise RuntimeError(f"the answers differ: {row}")
    return row


def lighter(sides: Sides, dtype: str, prompts: list[TokenizedPrompt], exact: GeneratedSids) -> Row:
    """What weights of fewer bits change, on random weights: their scores lie closer together than trained ones."""
    model = copy.deepcopy(sides.model)
    nn.Module.to(model, torch.float16 if dtype == "float16" else torch.bfloat16)
    generator: Generator = build_generator(model, sides.space, "children", served=True)
    found = StaticSearch(generator, float8=dtype == "float8", capture=sides.capture)(prompts, 50)
    return {
        "same_sids": same(found.codes, exact.codes),
        "same_first": round(float((found.codes[:, 0] == exact.codes[:, 0]).all(-1).mean()), 3),
        "best_score_differs_by": round(float(np.abs(found.scores[:, 0] - exact.scores[:, 0]).max()), 4),
    }


def same(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The mean share of the SIDs of a query that both found. int [B, W, 3] each."""
    shared = [
        len({*map(tuple, a.tolist())} & {*map(tuple, b.tolist())}) / len(b) for a, b in zip(ours, theirs, strict=True)
    ]
    return round(float(np.mean(shared)), 4)


def tests(bench: Bench) -> Row:
    """pytest on the tests of the GPU, but for the compiler, which `fused` has; a rehearsal collects them alone."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *TESTS,
        "-m",
        "gpu",
        "-k",
        "not compiled",
    ]
    command += [] if bench.cuda else ["--collect-only"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=bench.left)
    print(answer.stdout, answer.stderr, flush=True)
    last = answer.stdout.strip().splitlines()[-1] if answer.stdout.strip() else answer.stderr.strip()[-200:]
    if answer.returncode != 0 or (bench.cuda and "skipped" in last):
        raise RuntimeError(f"pytest: {last}")
    return {"pytest": last}
