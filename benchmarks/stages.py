"""Where the time of one search goes on a CPU, part by part, and the minimum that its matrix products take.

    python -m benchmarks.stages                                        a tiny and the small model, random weights
    python -m benchmarks.stages --model tiny --model small --model 0.5b    and Qwen2.5-0.5B's size

Eager torch is timed part by part: a search is written out here as `beam_search` has it, and its answers are compared
with that one's. ONNX Runtime reports by its own profile, summed by operator. The floor is the time of the matrix
products alone, measured here by torch.mm and torch.bmm at the same shapes with several weights in turns, and what the
same number of operations takes at the rate of one large product.

Everything runs on one thread, and times are processor time of that thread, so that others on the machine disturb
little; only the profile has none but wall time, of which each node's median counts. Prints tables, and writes
benchmarks/results/stages.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_info
from benchmarks.models import SHAPES, Shape, build_generator, random_model, random_space
from benchmarks.random_bundle import TINY, shop_texts
from genrecall.decoding import GeneratedSids, Generator
from genrecall.decoding.config import Vocabulary
from genrecall.decoding.export_modules import ModuleInputs
from genrecall.decoding.request_tokenizer import PromptTemplate, TokenizedPrompt
from genrecall.decoding.search import DecodeState, top
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.sid import LEVELS
from trainer.export import onnx
from trainer.generator.lm_model import train_tokenizer

SIZES = {"tiny": TINY, **SHAPES}
CELLS = {
    "tiny": ["1x8x50", "16x8x50"],
    "small": ["1x8x50", "16x8x50", "1x32x50", "16x32x50"],
    "0.5b": ["1x32x50"],
}
PARTS = ("tokenize", "prefix", "prefill", "decode 1", "decode 2", "heads", "top-k", "children", "reply")
MANY_LAYERS = 8  # of a model that torch alone runs here: exporting it takes many minutes
LARGE = 1024  # rows and columns of the product that stands for what the processor can do

Product = tuple[int, int, int, int]
"""matrices in a batch, rows, inner size, columns"""


class Clock:
    """Milliseconds of processor time by part, of one run."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.thread_time()
        yield
        self.ms[name] += (time.thread_time() - began) * 1e3


def timed_search(
    generator: Generator, tokenize: Callable[[list[str]], list[list[int]]], texts: list[str], width: int
) -> Clock:
    """One batch from texts to bytes of a reply; RuntimeError where the answer is not that of `Generator.search`."""
    clock = Clock()
    with clock.part("tokenize"):
        prompts = [TokenizedPrompt(ids) for ids in tokenize(texts)]
    with clock.part("prefix"):
        prefix = generator.prefix(prompts)
    with clock.part("prefill"):
        tree = DecodeState.prefill(generator.decoder, prefix)
    node = torch.zeros(tree.state.shape[:2], dtype=torch.int64)
    score = torch.zeros(tree.state.shape[:2])
    for level in range(LEVELS):
        with clock.part("heads"):
            step = generator.heads(level, tree.state, generator.tables, node, prefix.text)
        with clock.part("top-k"):
            score, pick = top(score.unsqueeze(-1) + step, width)
        with clock.part("children"):
            parent = pick // step.shape[-1]
            node = generator.tables.child(level, node.gather(1, parent), pick - parent * step.shape[-1])
        if level < LEVELS - 1:
            with clock.part(f"decode {level + 1}"):
                token = generator.heads.offsets[level] + generator.tables.codes(level, node)
                tree = tree.step(token, parent if level else None)
    with clock.part("reply"):
        generated = GeneratedSids.of(generator.space, node.numpy(), score.numpy(), width)
        counts = generated.valid.sum(axis=1)
        results = [
            pb.Generated(codes=generated.codes[row, :n].ravel().tolist(), scores=generated.scores[row, :n].tolist())
            for row, n in enumerate(counts)
        ]
        pb.GenerateResponse(codebook="v1", results=results).SerializeToString()
    if not np.array_equal(generated.codes, generator.search(prompts, width).codes):
        raise RuntimeError("the search written out here is no longer the one of genrecall.decoding.search")
    return clock


def products(shape: Shape, batch: int, length: int, width: int) -> dict[str, Counter[Product]]:
    """The matrix products of a search, by part."""
    head = shape.hidden // shape.heads
    kv, groups = shape.kv_heads * head, shape.heads // shape.kv_heads

    def forward(rows: int, past: int, last: int) -> Counter[Product]:
        """rows new ones a sequence behind `past`; of the last layer only `last` of them are needed."""
        every: Counter[Product] = Counter()
        for layer in range(shape.layers):
            needed = last if layer == shape.layers - 1 else rows
            every[1, batch * needed, shape.hidden, shape.hidden] += 2  # queries, output
            every[1, batch * rows, shape.hidden, kv] += 2
            every[1, batch * needed, shape.hidden, shape.intermediate] += 2
            every[1, batch * needed, shape.intermediate, shape.hidden] += 1
            every[batch * shape.kv_heads, groups * needed, head, past + rows] += 1
            every[batch * shape.kv_heads, groups * needed, past + rows, head] += 1
        return every

    heads: Counter[Product] = Counter()
    for level, size in enumerate(shape.level_sizes):
        heads[1, batch * (width if level else 1), shape.hidden, size] += 1
    return {
        "prefill": forward(length, 0, 1),
        "decode 1": forward(width, length, width),
        "decode 2": forward(width, length + width, width),
        "heads": heads,
    }


def flops(counted: Counter[Product]) -> int:
    return sum(2 * b * m * k * n * times for (b, m, k, n), times in counted.items())


def product_ms(product: Product, seconds: float = 0.3) -> float:
    """Median milliseconds of one product, of several weights in turns: those of a layer are not in the cache either."""
    batch, rows, inner, columns = product
    weights = [torch.randn(batch, columns, inner) for _ in range(max(1, min(8, 2**24 // (batch * columns * inner))))]
    x = torch.randn(batch, rows, inner)
    taken: list[float] = []
    while len(taken) < 10 or sum(taken) < seconds * 1e3:
        weight = weights[len(taken) % len(weights)]
        began = time.thread_time()
        if batch == 1:
            torch.mm(x[0], weight[0].T)
        else:
            torch.bmm(x, weight.transpose(1, 2))
        taken.append((time.thread_time() - began) * 1e3)
    return statistics.median(taken)


def onnx_profile(generator: Generator, folder: Path, ids: list[list[int]], width: int, runs: int) -> dict[str, Any]:
    """Milliseconds of a run without the profiler, and by operator with it."""
    import onnxruntime as ort

    inputs = ModuleInputs.of(generator)
    prompts = inputs.prompts([TokenizedPrompt(row) for row in ids])
    arrays = {**prompts, **inputs.of_codebook, "beams": np.arange(width)}

    def session(profile: bool) -> tuple[Any, list[float]]:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = profile
        options.profile_file_prefix = str(folder / "profile")
        opened = ort.InferenceSession(folder / onnx.SEARCH, options, providers=["CPUExecutionProvider"])
        names = {node.name for node in opened.get_inputs()}
        inputs = {name: array for name, array in arrays.items() if name in names}
        taken = []
        for _ in range(runs + 1):
            began = time.thread_time()
            opened.run(None, inputs)
            taken.append((time.thread_time() - began) * 1e3)
        return opened, taken[1:]

    _, taken = session(profile=False)
    profiled, _ = session(profile=True)
    file = Path(profiled.end_profiling())
    events = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    taken_by: dict[tuple[str, str], list[float]] = defaultdict(list)  # of a node, in every run
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            taken_by[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    ms, nodes = Counter[str](), Counter[str]()
    for (operator, _), durations in taken_by.items():
        ms[operator] += statistics.median(durations)  # type: ignore[assignment]  # a Counter of floats adds up as well
        nodes[operator] += 1
    by_operator = {name: {"ms": round(spent, 3), "nodes": nodes[name]} for name, spent in ms.most_common()}
    return {"ms": round(statistics.median(taken), 3), "by_operator": by_operator}


def measure(name: str, cells: list[str], repeats: int) -> list[dict[str, Any]]:
    shape = SIZES[name]
    generator = build_generator(random_model(shape), random_space(shape), "children")
    titles, queries = shop_texts()
    words = PromptTemplate(
        train_tokenizer(titles, 8_000).backend_tokenizer, Vocabulary(8_000, shape.level_sizes), 1024, True
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if exported := shape.layers < MANY_LAYERS:
            onnx.write(generator, Path(folder))
        for cell in cells:
            batch, length, width = map(int, cell.split("x"))
            texts = [" ".join(" ".join(queries[n::batch]).split()[:length]) for n in range(batch)]
            words.max_tokens = length
            ids = words.ids(texts, "query")
            assert {len(one) for one in ids} == {length}
            runs = [
                timed_search(generator, lambda t: words.ids(t, "query"), texts, width).ms for _ in range(repeats + 1)
            ][1:]
            parts = {part: statistics.median(run[part] for run in runs) for part in PARTS}
            counted = products(shape, batch, length, width)
            least = {part: sum(product_ms(p) * times for p, times in of.items()) for part, of in counted.items()}
            profile = {"onnx": onnx_profile(generator, Path(folder), ids, width, repeats)} if exported else {}
            rows.append(
                {
                    "model": name,
                    **{"batch": batch, "prompt": length, "beams": width},
                    "torch_ms": {part: round(ms, 3) for part, ms in parts.items()},
                    "products_ms": {part: round(ms, 3) for part, ms in least.items()},
                    "gflop": {part: round(flops(of) / 1e9, 4) for part, of in counted.items()},
                    **profile,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=[*SIZES], help="may be repeated; default: tiny and small")
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()

    torch.set_num_threads(1)
    console = Console()
    rows: list[dict[str, Any]] = []
    with torch.inference_mode():
        peak = 2 * LARGE**3 / product_ms((1, LARGE, LARGE, LARGE), 2) / 1e6
        for name in args.model or ["tiny", "small"]:
            with console.status(f"measuring {name}"):
                rows += measure(name, CELLS[name], 3 if name == "0.5b" else args.repeats)
    result = {"gflop_per_s": round(peak, 1), "machine": machine_info(), "rows": rows}
    path = Path(__file__).parent / "results/stages.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        console.print(*tables(row, peak))
    console.print(f"one large product: {peak:.0f} GFLOP/s\n{result['machine']}\nwritten to {path}")


def tables(row: dict[str, Any], peak: float) -> list[Table]:
    title = f"{row['model']}, {row['batch']} x {row['prompt']} x {row['beams']}"
    parts = Table("part", "torch ms", "products alone ms", "MFLOP", "at the peak ms", title=title)
    for part, ms in row["torch_ms"].items():
        gflop = row["gflop"].get(part)
        floor = (f"{row['products_ms'][part]:.2f}", f"{gflop * 1e3:.1f}", f"{gflop / peak * 1e3:.2f}") if gflop else ()
        parts.add_row(part, f"{ms:.2f}", *floor)
    gflop = sum(row["gflop"].values())
    sums = (sum(row["torch_ms"].values()), sum(row["products_ms"].values()), gflop * 1e3, gflop / peak * 1e3)
    parts.add_row("all", *(f"{value:.2f}" for value in sums), style="bold")
    if "onnx" not in row:
        return [parts]
    operators = Table("operator", "nodes", "ms", title=f"ONNX Runtime: {row['onnx']['ms']:.2f} ms a run")
    for name, of in list(row["onnx"]["by_operator"].items())[:12]:
        operators.add_row(name, f"{of['nodes']}", f"{of['ms']:.2f}")
    return [parts, operators]


if __name__ == "__main__":
    main()
