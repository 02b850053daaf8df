"""The constrained search alone, against Hugging Face `generate` as it is commonly used for SIDs.

    python -m benchmarks.search                                  the small model, over batches, prompts and beams
    python -m benchmarks.search --model 0.5b --shape 1x32x50     Qwen2.5-0.5B's size, random weights

All sides run in this process, in blocks by turns, on the same prompts and weights:
  torch            genrecall, eager, with the scores of `generate` (probabilities over the whole vocabulary)
  onnx             genrecall, one ONNX graph in ONNX Runtime, the same scores
  onnx, children   the same as it is served by default: probabilities over the valid children, so other scores
  onnx, int8       that with int8 matrices
  hf allowed fn    `generate(prefix_allowed_tokens_fn=...)`: the same SIDs as the first two
  hf trie          `generate` with a trie in a `LogitsProcessor`
  hf free + filter `generate` without a constraint; beams that no item has are discarded
A slow side is repeated less often (--seconds per cell and side). Prints a table, and writes
benchmarks/results/search-MODEL.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import hugging_face
from benchmarks.machine import machine_info
from benchmarks.models import SHAPES, build_generator, random_model, random_space
from genrecall.decoding import Generator
from genrecall.decoding.export_modules import ModuleInputs
from genrecall.decoding.heads import Normalizer
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from inference_server.engines.onnx_engine import CPU, Session
from trainer.export import onnx

Side = Callable[[torch.Tensor, int], np.ndarray]
"""(prompt ids [B, S], width) -> rows of the SIDs [B, W], -1 where there is none"""

CELLS = {
    "small": ["1x16x50", "1x32x20", "1x32x50", "1x32x100", "1x128x50", "1x256x50", "8x32x50", "32x32x50", "64x32x20"],
    "0.5b": ["1x32x20", "1x32x50", "1x128x50"],
}
ROUNDS, PAUSE_S = 3, 0.3
BASELINE = "hf allowed fn"
SIDES = ("torch", "onnx", "onnx, children", "onnx, int8", BASELINE, "hf trie", "hf free + filter")


def torch_side(made: Generator) -> Side:
    return lambda ids, width: made.space.index_of(made.search(_prompts(ids), width).codes)


def onnx_side(made: Generator, folder: Path, threads: int) -> Side:
    inputs = ModuleInputs.of(made)
    session = Session(folder / onnx.SEARCH, CPU, 0, threads, inputs.of_codebook)

    def search(ids: torch.Tensor, width: int) -> np.ndarray:
        return session.run({**inputs.prompts(_prompts(ids)), "beams": np.arange(width)})[0]

    return search


def sides(name: str, selected: Sequence[str], folder: Path, threads: int) -> dict[str, Side]:
    """The selected sides over the same random weights; exports go to `folder`."""
    shape = SHAPES[name]
    model, space = random_model(shape), random_space(shape)
    generators = {n: build_generator(model, space, n) for n in ("vocabulary", "children")}
    exports: dict[str, Path] = {}

    def exported(normalizer: Normalizer) -> Path:
        if normalizer not in exports:
            exports[normalizer] = folder / normalizer
            exports[normalizer].mkdir()
            onnx.write(generators[normalizer], exports[normalizer], (onnx.SEARCH,))
        return exports[normalizer]

    def int8() -> Path:
        target = folder / "int8"
        target.mkdir()
        onnx.quantize(exported("children"), target)
        return target

    offsets = generators["children"].heads.offsets
    after = cache(lambda: hugging_face.trie(space, offsets))

    def by_hugging_face(search: hugging_face.Search) -> Side:
        return lambda ids, width: space.index_of(search(ids, width) - np.array(offsets))

    makers: dict[str, Callable[[], Side]] = {
        "torch": lambda: torch_side(generators["vocabulary"]),
        "onnx": lambda: onnx_side(generators["vocabulary"], exported("vocabulary"), threads),
        "onnx, children": lambda: onnx_side(generators["children"], exported("children"), threads),
        "onnx, int8": lambda: onnx_side(generators["children"], int8(), threads),
        BASELINE: lambda: by_hugging_face(hugging_face.allowed_fn(model, after())),
        "hf trie": lambda: by_hugging_face(hugging_face.trie_processor(model, after())),
        "hf free + filter": lambda: by_hugging_face(hugging_face.filtered(model, space, offsets)),
    }
    return {side: makers[side]() for side in track(selected, "opening")}


def measure(every: dict[str, Side], cell: str, tokens: int, repeats: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of each side over the same prompts.

    Sides take turns in blocks, a pause before each: the threads of one runtime spin for a while after their work, which
    would be charged to whoever comes next.
    """
    batch, length, width = map(int, cell.split("x"))
    random = torch.Generator().manual_seed(1)
    prompts = [torch.randint(0, tokens, (batch, length), generator=random) for _ in range(max(ROUNDS, repeats))]
    taken: dict[str, list[float]] = {name: [] for name in every}
    rows_of: dict[str, list[np.ndarray]] = {name: [] for name in every}
    for block in np.array_split(np.arange(len(prompts)), ROUNDS):
        for name, search in every.items():
            if sum(taken[name]) > seconds * 1e3 and len(taken[name]) >= 2:
                continue
            time.sleep(PAUSE_S)
            search(prompts[block[0]], width)  # warms up
            for n in block:
                started = time.perf_counter()
                rows_of[name].append(search(prompts[n], width))
                taken[name].append((time.perf_counter() - started) * 1e3)
                if sum(taken[name]) > seconds * 1e3 and len(taken[name]) >= 2:
                    break
    # Blocks that were cut short still begin the lists, as every side met the same prompts in the same order.
    alike = {
        name: [
            _overlap(a, b)
            for rows, base in zip(of, rows_of.get(BASELINE, []), strict=False)
            for a, b in zip(rows, base, strict=True)
        ]
        for name, of in rows_of.items()
    }
    return {
        "batch": batch,
        "prompt": length,
        "beams": width,
        "ms": {
            name: {
                "median": round(statistics.median(values), 2),
                "p10": round(float(np.quantile(values, 0.1)), 2),
                "p90": round(float(np.quantile(values, 0.9)), 2),
                "runs": len(values),
            }
            for name, values in taken.items()
        },
        "overlap_with_hf": {name: round(float(np.mean(values)), 3) for name, values in alike.items() if values},
    }


def _overlap(rows: np.ndarray, baseline: np.ndarray) -> float:
    expected = {*baseline.tolist()} - {-1}
    return len(expected & {*rows.tolist()}) / max(1, len(expected))


def _prompts(ids: torch.Tensor) -> list[TokenizedPrompt]:
    return [TokenizedPrompt(row) for row in ids.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*SHAPES], default="small")
    parser.add_argument("--shape", action="append", help="BATCHxTOKENSxBEAMS, may be repeated", metavar="1x32x50")
    parser.add_argument("--side", action="append", choices=SIDES, help="may be repeated; all without it")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=15, help="a side of a cell stops repeating after so long")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        every = sides(args.model, args.side or SIDES, Path(folder), args.threads)
        for cell in track(args.shape or CELLS[args.model], "measuring"):
            with torch.inference_mode():
                rows.append(measure(every, cell, SHAPES[args.model].text_tokens, args.repeats, args.seconds))
    result = {
        "model": {"name": args.model, **SHAPES[args.model].__dict__},
        "threads": args.threads,
        "machine": machine_info(),
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / f"search-{args.model}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    Console().print(table(rows), f"{result['machine']}\nwritten to {path}")


def table(rows: list[dict[str, Any]]) -> Table:
    shown = Table(
        "batch x tokens x beams", "side", "ms a batch (p10 to p90)", f"times as fast as {BASELINE}", "same SIDs"
    )
    for row in rows:
        slow = row["ms"].get(BASELINE, {}).get("median", float("nan"))
        for name, ms in row["ms"].items():
            shown.add_row(
                f"{row['batch']} x {row['prompt']} x {row['beams']}" if name == next(iter(row["ms"])) else "",
                name,
                f"{ms['median']:.1f} ({ms['p10']:.1f} to {ms['p90']:.1f})",
                f"{slow / ms['median']:.1f}",
                f"{row['overlap_with_hf'].get(name, float('nan')):.1%}",
            )
        shown.add_section()
    return shown


if __name__ == "__main__":
    main()
