"""What the evidence adds to a search: time and memory, by the number of SIDs.

    python -m benchmarks.evidence [--sids 1700 13000 250000] [--batch 1 8]

Three graphs in ONNX Runtime over one small decoder of random weights, run by turns on the same queries of six words:
  decoder            the search of a generator without evidence
  evidence           words and vectors alone: gates shut, no decoder
  mixture            both: gates open
Words are Zipf-distributed over SIDs, vectors random: speed alone is measured. The words are added up on the host as the
engine does it, inside the time. Everything runs on one thread, and times are processor time, so that others on the
machine disturb little. Beyond `genrecall.decoding.evidence.FLAT` SIDs vectors are compared by way of the tree.
Prints a table, and writes benchmarks/results/evidence.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks.machine import machine_info
from benchmarks.models import SHAPES, Shape, build_generator, random_model
from genrecall.analyzer import NAME, Analyzer
from genrecall.decoding import Generator
from genrecall.decoding.adapter import QueryAdapter
from genrecall.decoding.config import EvidenceConfig, Gates
from genrecall.decoding.evidence import FLAT, Evidence
from genrecall.decoding.export_modules import ModuleInputs
from genrecall.decoding.lexical import Lexicon
from genrecall.decoding.request_tokenizer import RequestTokenizer, TokenizedPrompt
from genrecall.decoding.search import Prefix
from genrecall.decoding.user_prefix import Users
from genrecall.sid import SidSpace
from inference_server.engines.onnx_engine import CPU, Session
from trainer.export import onnx

DIM, TERMS, WORDS, TOKENS = 384, 30_000, 6, 16
SIDES = ("decoder", "evidence", "mixture")


class TextAndTokens(nn.Module):
    """Token embeddings, and a vector of the text made of them: the inputs of both kinds of generator at once."""

    def __init__(self, embed_tokens: nn.Embedding) -> None:
        super().__init__()
        self.embed_tokens = embed_tokens
        self.to_text = nn.Linear(embed_tokens.embedding_dim, DIM)

    def forward(self, ids: Tensor, mask: Tensor, users: Users | None, tokens: Tensor) -> Prefix:
        embeds = self.embed_tokens(ids)
        return Prefix(embeds, mask, nn.functional.normalize(self.to_text(embeds.mean(1)), dim=-1))


def tree_space(sids: int) -> SidSpace:
    """A tree as hierarchical k-means makes it: about as many children at the second level as at the third."""
    first = 2 ** round(np.log2(np.sqrt(sids)))
    below = int(np.ceil(np.sqrt(sids / first)))
    codes = np.stack(np.unravel_index(np.arange(first * below * below), (first, below, below)), axis=1)
    return SidSpace.of(codes[np.sort(np.random.default_rng(0).permutation(len(codes))[:sids])].astype(np.int32))


def random_evidence(space: SidSpace) -> Evidence:
    rng = np.random.default_rng(1)
    counts = np.minimum(4096, np.maximum(1, len(space) * 0.3 / np.arange(1, TERMS + 1))).astype(np.int64)
    counts = np.minimum(counts, len(space))
    sid = np.concatenate([rng.choice(len(space), count, replace=False) for count in counts]).astype(np.int32)
    arrays = {
        "start": torch.from_numpy(np.concatenate([[0], np.cumsum(counts), [len(sid)]])),
        "sid": torch.from_numpy(sid),
        "impact": torch.rand(len(sid)),
        "log_items": torch.rand(len(space)),
        "vectors": nn.functional.normalize(torch.randn(len(space), DIM), dim=-1),
    }
    if len(space) > FLAT:
        arrays["node_vectors"] = nn.functional.normalize(torch.randn(len(space.prefixes.code[1]), DIM), dim=-1)
    return Evidence(arrays, QueryAdapter(DIM, 768)).eval().requires_grad_(False)


def generators(space: SidSpace) -> dict[str, Generator]:
    """The three, over the same weights."""
    shape = SHAPES["small"]
    model = random_model(Shape(**{**shape.__dict__, "level_sizes": space.level_sizes, "sids": len(space)}))
    plain, evidence = build_generator(model, space, "children"), random_evidence(space)
    embedder = TextAndTokens(plain.decoder.embed_tokens).eval().requires_grad_(False)
    none = np.empty(0, np.int64)
    made = {}
    for side, gate in zip(SIDES, (None, 0.0, 0.3), strict=True):
        tokenizer = plain.request_tokenizer
        if gate is not None:
            config = replace(tokenizer.config, evidence=EvidenceConfig(NAME, "english", Gates(gate, gate, gate)))
            lexicon = Lexicon(Analyzer("english"), np.arange(TERMS), evidence.get_buffer("start").numpy(), none)
            tokenizer = RequestTokenizer(tokenizer._tokenize, config, space, lexicon=lexicon)
        own = None if gate is None else evidence
        made[side] = Generator(tokenizer, embedder, plain.decoder, plain.heads, plain.tables, own)  # type: ignore[arg-type]
    return made


def measure(sids: int, batches: list[int], repeats: int, folder: Path) -> list[dict[str, Any]]:
    space, rng = tree_space(sids), np.random.default_rng(2)
    sessions, inputs = {}, {}
    for side, generator in generators(space).items():
        (folder / side).mkdir(parents=True)
        onnx.write(generator, folder / side, (onnx.SEARCH,))
        inputs[side] = ModuleInputs.of(generator)
        sessions[side] = Session(folder / side / onnx.SEARCH, CPU, 0, 1, inputs[side].of_codebook)
    memory = {side: sum(array.nbytes for array in of.of_codebook.values()) for side, of in inputs.items()}
    postings = inputs["mixture"].postings
    assert postings is not None
    memory["words"] = postings.document.nbytes + postings.impact.nbytes
    rows = []
    for batch in batches:
        taken: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(repeats):
            drawn = np.minimum(rng.zipf(1.3, (batch, WORDS)) + rng.integers(0, 40, (batch, WORDS)), TERMS - 1)
            prompts = [
                TokenizedPrompt(rng.integers(0, 8000, TOKENS).tolist(), terms=np.unique(terms), gate=0.3)
                for terms in drawn
            ]
            for side, session in sessions.items():
                arrays = {**inputs[side].prompts(prompts), "beams": np.arange(50)}
                session.run(arrays)  # warms up
                started = time.process_time()
                session.run({**inputs[side].prompts(prompts), "beams": np.arange(50)})
                taken[side].append((time.process_time() - started) * 1e3)
        ms = {side: np.quantile(values, (0.1, 0.5, 0.9)).round(2).tolist() for side, values in taken.items()}
        added = statistics.median(b - a for a, b in zip(taken["decoder"], taken["mixture"], strict=True))
        rows.append(
            {"sids": len(space), "batch": batch, "ms": ms, "added_ms": round(added, 2), "mb": _megabytes(memory)}
        )
    return rows


def _megabytes(memory: dict[str, int]) -> dict[str, float]:
    return {name: round(size / 1e6, 1) for name, size in memory.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sids", type=int, nargs="+", default=[1_700, 13_000, 250_000])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for sids in track(args.sids, "measuring"):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(sids, args.batch, args.repeats, Path(folder))
    result = {"machine": machine_info(), "rows": rows}
    path = Path(__file__).parent / "results" / "evidence.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    shown = Table(
        "SIDs", "batch", *(f"{side}, ms (p10 to p90)" for side in SIDES), "added, ms", "tables, MB", "words, MB"
    )
    for row in rows:
        cells = (f"{mid:.1f} ({low:.1f} to {high:.1f})" for low, mid, high in (row["ms"][side] for side in SIDES))
        mb = row["mb"]
        shown.add_row(
            f"{row['sids']:,}",
            str(row["batch"]),
            *cells,
            f"{row['added_ms']:.1f}",
            f"{mb['decoder']} -> {mb['mixture']}",
            str(mb["words"]),
        )
    Console().print(shown, f"{result['machine']}\nwritten to {path}")


if __name__ == "__main__":
    main()
