"""What the constraint alone costs a step: from logits and prefixes to the best beams and their nodes.

    python -m benchmarks.constraint [--repeats 15 --spaces small uniform-1m skewed-1m uniform-5m skewed-5m]

No model runs: logits are random, prefixes are those of SIDs drawn from the list, so that much used ones come often. All
sides get the same, end in the same log-softmax, sum and top-k, and are checked to find the same scores:

    none               no constraint: log-softmax and top-k over every code, the floor of a side whose slots are codes
    ranges             the three of `genrecall.decoding.tables`; dense is left out beyond a gigabyte
    dense
    bitmap
    sparse             a sparse transition matrix as STATIC (arXiv 2602.22647) has it, written anew: rows of (code, next
                       node), as many as the widest node has, gathered at once and masked by length
    sparse, scattered  the same, put back into logits of the level's size, for a search that wants those
    trie               a dictionary from prefix to children, looked up beam by beam: `prefix_allowed_tokens_fn`

Sides take turns in random order, and on a CPU the time is that of the one thread that computes, not the clock's: other
work on the machine then costs caches but no pauses. Prints tables, and writes benchmarks/results/constraint.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from benchmarks.machine import machine_info
from genrecall.decoding.decoder import MASKED
from genrecall.decoding.search import top
from genrecall.decoding.tables import MASK_BYTES, ConstraintTables, Representation, choose
from genrecall.sid import LEVELS, Prefixes, SidSpace

FULL, SMALL = (2048, 1024, 1024), (128, 32, 32)
SPACES = {
    "small": (13_000, SMALL, False),
    "uniform-1m": (1_000_000, FULL, False),
    "skewed-1m": (1_000_000, FULL, True),
    "uniform-5m": (5_000_000, FULL, False),
    "skewed-5m": (5_000_000, FULL, True),
}
SHAPES = tuple(product((1, 16), (20, 50, 100)))  # batch, beams
DENSE_LIMIT = 1 << 30  # bytes
REPRESENTATIONS: tuple[Representation, ...] = ("ranges", "dense", "bitmap")
SIDES = ("none", *REPRESENTATIONS, "sparse", "sparse, scattered", "trie")

T = TypeVar("T")
Step = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(logits [B, R, K], parent [B, R], score [B, R], width) -> best [B, W], node or code [B, W]"""


def random_sids(count: int, sizes: tuple[int, int, int], skewed: bool) -> np.ndarray:
    """int32 [count, 3] SIDs in random order.

    skewed: first codes as a Zipf law of exponent 0.8, second ones of exponent 1.2 in an order of their own under each
    first, so that a few prefixes have nearly every third code, and most have one or two.
    """
    rng = np.random.default_rng(0)
    k1, k2, k3 = sizes
    weight = np.ones((k1, k2))
    if skewed:
        weight = rng.permuted(np.arange(1, k2 + 1) ** -1.2 * np.ones((k1, 1)), axis=1)
        weight *= np.arange(1, k1 + 1)[:, None] ** -0.8
    weight = weight.ravel() / weight.sum()
    scale = float(count)
    while (k3 * -np.expm1(-scale * weight / k3)).sum() < 1.01 * count:  # each SID is there with 1 - exp(-its share)
        scale *= 1.05
    children = rng.binomial(k3, -np.expm1(-scale * weight / k3))
    parent = np.repeat(np.arange(k1 * k2), children)
    nth = np.arange(len(parent)) - np.repeat(np.cumsum(children) - children, children)
    start, stride = rng.integers(0, k3, k1 * k2), 2 * rng.integers(0, k3 // 2, k1 * k2) + 1  # k3 is a power of two
    keys = parent * k3 + (start[parent] + nth * stride[parent]) % k3
    keys = rng.permutation(keys)[:count]
    return np.stack(np.unravel_index(keys, sizes), axis=1).astype(np.int32)


def finish(candidates: Tensor, score: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """What every side ends in: best [B, W], and the row and slot that each was."""
    best, pick = top(score.unsqueeze(-1) + candidates.log_softmax(-1), width)
    row = pick // candidates.shape[-1]
    return best, row, pick - row * candidates.shape[-1]


def masked_step(tables: ConstraintTables, level: int) -> Step:
    def step(logits: Tensor, parent: Tensor, score: Tensor, width: int) -> tuple[Tensor, Tensor]:
        best, row, slot = finish(tables.candidates(level, parent, logits), score, width)
        return best, tables.child(level, parent.gather(1, row), slot)

    return step


def unconstrained(logits: Tensor, parent: Tensor, score: Tensor, width: int) -> tuple[Tensor, Tensor]:
    best, _, code = finish(logits, score, width)
    return best, code


@dataclass(frozen=True)
class Sparse:
    """A level's transitions: rows int32 [nodes + widest, 2] of (code, next node), start int32 [parents + 1]."""

    rows: Tensor
    start: Tensor
    widest: int

    @classmethod
    def build(cls, prefixes: Prefixes, level: int, device: str) -> Sparse:
        code, start = prefixes.code[level], prefixes.start[level]
        widest = int(np.diff(start).max())
        rows = np.zeros((len(code) + widest, 2), dtype=np.int32)
        rows[: len(code)] = np.stack((code, np.arange(len(code))), axis=1)
        return cls(torch.from_numpy(rows).to(device), torch.from_numpy(start).to(device), widest)

    def slots(self, parent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes int64, next nodes int32 and valid bool, each [B, R, widest]."""
        first = self.start[parent]
        count = self.start[parent + 1] - first
        slot = torch.arange(self.widest, device=parent.device, dtype=torch.int32)
        pairs = self.rows[first.unsqueeze(-1) + slot]
        return pairs[..., 0].long(), pairs[..., 1], slot < count.unsqueeze(-1)

    def step(self, logits: Tensor, parent: Tensor, score: Tensor, width: int) -> tuple[Tensor, Tensor]:
        code, node, valid = self.slots(parent)
        best, row, slot = finish(torch.where(valid, logits.gather(-1, code), MASKED), score, width)
        return best, node.flatten(1).gather(1, row * self.widest + slot)

    def scattered(self, logits: Tensor, parent: Tensor, score: Tensor, width: int) -> tuple[Tensor, Tensor]:
        code, node, valid = self.slots(parent)
        size = logits.shape[-1]
        place = torch.where(valid, code, size)  # what is padding goes into a column that is cut off
        full = logits.new_full((*logits.shape[:-1], size + 1), MASKED)
        full.scatter_(-1, place, logits.gather(-1, code))
        next_node = node.new_zeros(full.shape).scatter_(-1, place, node)
        best, row, slot = finish(full[..., :size], score, width)
        return best, next_node.flatten(1).gather(1, row * (size + 1) + slot)


def trie(space: SidSpace) -> list[dict[tuple[int, ...], list[int]]]:
    """Of each level, the children of every prefix."""
    levels: list[dict[tuple[int, ...], list[int]]] = []
    nodes: list[tuple[int, ...]] = [()]
    for level in range(LEVELS):
        start, code = space.prefixes.start[level].tolist(), space.prefixes.code[level].tolist()
        children = [code[a:b] for a, b in pairwise(start)]
        levels.append(dict(zip(nodes, children, strict=True)))
        if level < LEVELS - 1:
            nodes = [(*prefix, c) for prefix, below in zip(nodes, children, strict=True) for c in below]
    return levels


def trie_step(children: dict[tuple[int, ...], list[int]], prefix: Tensor) -> Step:
    """prefix: int64 [B, R, level], the codes so far, which is what Hugging Face hands to the function."""

    def step(logits: Tensor, parent: Tensor, score: Tensor, width: int) -> tuple[Tensor, Tensor]:
        mask = torch.full_like(logits, MASKED)
        for batch in range(logits.shape[0]):
            for row in range(logits.shape[1]):
                mask[batch, row, children[tuple(prefix[batch, row].tolist())]] = 0
        best, _, code = finish(logits + mask, score, width)
        return best, code

    return step


def trie_bytes(children: dict[tuple[int, ...], list[int]]) -> int:
    """The dictionary, its keys and lists, and the integers that Python does not share."""
    total = sys.getsizeof(children)
    for prefix, codes in children.items():
        total += sys.getsizeof(prefix) + sys.getsizeof(codes) + 28 * sum(code > 256 for code in codes)
    return total


def timed(make: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    made = make()
    return made, time.perf_counter() - started


@dataclass(frozen=True)
class Tables:
    """Everything about one list of SIDs: sides by level, and what they took to make and to keep."""

    space: SidSpace
    served: ConstraintTables
    sides: tuple[dict[str, Step], ...]
    trie: list[dict[tuple[int, ...], list[int]]]
    facts: dict[str, Any]


def prepare(codes: np.ndarray, sizes: tuple[int, int, int], device: str) -> Tables:
    space, sort = timed(lambda: SidSpace.of(codes, sizes))
    prefixes, derive = timed(lambda: space.prefixes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "constraint.safetensors"
        _, save = timed(lambda: space.save(path))
        file = path.stat().st_size
        loaded, load = timed(lambda: SidSpace.load(path, sizes))
        _, build = timed(lambda: ConstraintTables.build(loaded, device))
    chosen = choose(space, MASK_BYTES)
    served, masks = timed(lambda: ConstraintTables.build(space, device, chosen))
    words, spell = timed(lambda: trie(space))
    sides: list[dict[str, Step]] = []
    levels = []
    for level, size in enumerate(sizes):
        steps: dict[str, Step] = {"none": unconstrained}
        parents, nodes = len(prefixes.start[level]) - 1, len(prefixes.code[level])
        used: dict[str, int] = {}
        for kind in REPRESENTATIONS:
            if kind == "dense" and parents * size > DENSE_LIMIT:
                continue
            kinds = [kind if n == level else "ranges" for n in range(LEVELS)]
            tables = ConstraintTables.build(space, device, (kinds[0], kinds[1], kinds[2]))
            steps[kind] = masked_step(tables, level)
            mask = tables.masks[level]
            used[kind] = mask.nbytes if mask else tables.code[level].nbytes + tables.start[level].nbytes
        sparse = Sparse.build(prefixes, level, device)
        steps |= {"sparse": sparse.step, "sparse, scattered": sparse.scattered}
        used["sparse"] = sparse.rows.nbytes + sparse.start.nbytes
        used["trie"] = trie_bytes(words[level])
        widest = int(np.diff(prefixes.start[level]).max())
        about = {"codes": size, "parents": parents, "nodes": nodes, "widest": widest, "chosen": chosen[level]}
        levels.append({**about, "bytes": used})
        sides.append(steps)
    seconds = {"sort": sort, "prefixes": derive, "save": save, "load": load, "build": build, "masks": masks}
    facts = {
        "sids": len(space),
        "levels": levels,
        "seconds": {name: round(value, 3) for name, value in {**seconds, "trie": spell}.items()},
        "bytes": {"file": file, "served": served.nbytes},
    }
    return Tables(space, served, tuple(sides), words, facts)


def measure(tables: Tables, level: int, batch: int, beams: int, repeats: int, device: str) -> dict[str, Any]:
    """Milliseconds of each side over the same logits and prefixes."""
    random = torch.Generator().manual_seed(level)
    rows, size = beams if level else 1, tables.space.level_sizes[level]
    taken: dict[str, list[float]] = {}
    for turn in range(repeats + 2):
        sid = torch.randint(len(tables.space), (batch, rows), generator=random).numpy()
        path = tables.served.paths_of(sid.ravel()).reshape(batch, rows, LEVELS)
        parent = torch.from_numpy(path[..., level - 1] if level else np.zeros_like(sid)).to(device)
        prefix = torch.from_numpy(tables.space.sids[sid, :level]).to(device)
        logits = (3 * torch.randn(batch, rows, size, generator=random)).to(device)
        score = torch.randn(batch, rows, generator=random).to(device)
        results = {}
        sides = [*tables.sides[level].items(), ("trie", trie_step(tables.trie[level], prefix))]
        for at in torch.randperm(len(sides), generator=random).tolist():  # who goes before leaves a cache behind
            name, step = sides[at]
            started = _now(device)
            results[name] = step(logits, parent, score, beams)
            if turn >= 2:  # the first two warm up
                taken.setdefault(name, []).append((_now(device) - started) * 1e3)
        _check(results)
    return {
        "level": level + 1,
        "batch": batch,
        "beams": beams,
        "ms": {
            name: dict(zip(("median", "p10", "p90"), np.quantile(values, (0.5, 0.1, 0.9)).round(3), strict=True))
            for name, values in sorted(taken.items(), key=lambda side: SIDES.index(side[0]))
        },
    }


def _check(results: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Every side with a constraint finds the same scores, and those that number nodes the same nodes."""
    best, node = results["ranges"]
    alive = best > MASKED / 2
    for name, (other, picked) in results.items():
        if name != "none" and not torch.allclose(best[alive], other[alive], atol=1e-4):
            raise AssertionError(f"{name} finds other scores than ranges")
        if name not in ("none", "trie") and (picked[alive] != node[alive]).float().mean() > 0.2:  # near ties swap
            raise AssertionError(f"{name} finds other nodes than ranges")


def _now(device: str) -> float:
    """Seconds."""
    if device == "cpu":
        return time.thread_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def report(results: list[dict[str, Any]], console: Console) -> None:
    for result in results:
        facts = result["facts"]
        title = f"{result['space']} on {result['device']}: {facts['sids']:,} SIDs. ms a step: median (p10 to p90)"
        table = Table("level", "B", "W", *SIDES, title=title)
        for row in result["rows"]:
            cells = [_cell(row["ms"].get(name)) for name in SIDES]
            level = facts["levels"][row["level"] - 1]
            chosen = f"{row['level']} ({level['widest']} of {level['codes']}: {level['chosen']})"
            table.add_row(chosen, str(row["batch"]), str(row["beams"]), *cells)
        console.print(table)
        for n, level in enumerate(facts["levels"], 1):
            sizes = ", ".join(f"{name} {value / 1e6:,.2f} MB" for name, value in level["bytes"].items())
            console.print(f"level {n}: {level['parents']:,} parents, {level['nodes']:,} nodes; {sizes}")
        console.print("seconds:", ", ".join(f"{name} {value:.3f}" for name, value in facts["seconds"].items()))


def _cell(ms: dict[str, float] | None) -> str:
    return f"{ms['median']:.2f} ({ms['p10']:.2f} to {ms['p90']:.2f})" if ms else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--spaces", nargs="+", choices=list(SPACES), default=list(SPACES))
    args = parser.parse_args()

    torch.set_num_threads(1)
    console, results = Console(), []
    for name, device in product(args.spaces, ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)):
        count, sizes, skewed = SPACES[name]
        tables = prepare(random_sids(count, sizes, skewed), sizes, device)
        jobs = [(level, *shape) for level in range(LEVELS) for shape in SHAPES]
        with torch.inference_mode():
            rows = [measure(tables, *job, args.repeats, device) for job in track(jobs, name, console=console)]
        results.append({"space": name, "device": device, "facts": tables.facts, "rows": rows})
        report(results[-1:], console)
        del tables
    path = Path(__file__).parent / "results" / "constraint.json"
    path.parent.mkdir(exist_ok=True)
    written = {"repeats": args.repeats, "machine": machine_info(), "results": results}
    path.write_text(json.dumps(written) + "\n", encoding="utf-8")
    console.print(f"{written['machine']}\nwritten to {path}")


if __name__ == "__main__":
    main()
