"""The constrained search against Hugging Face's, one query at a time on random weights of one shape.

    python -m benchmarks.search [--layers 2 --hidden 256 --repeats 15]

All sides run in this process, in turns, on the same prompts: ours, with the scores of `generate`; ours as served by
default (probabilities over valid children: other scores); `generate` with `prefix_allowed_tokens_fn`, which gives the
same SIDs as the first; `generate` without a constraint, whose answers are thrown away where no item has them.
Prints a table, and writes benchmarks/results/search-<layers>x<hidden>.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.machine import describe
from genrecall.decoding.constraint import ConstraintTables
from genrecall.decoding.heads import LevelHeads, Normalizer
from genrecall.decoding.search import Prefix, beam_search
from genrecall.decoding.transformer import Decoder, DecoderConfig
from genrecall.sid import SidSpace

TEXT_TOKENS = 8000
LEVEL_SIZES = (128, 32, 32)
SIDS = 13_000
SHAPES = ((16, 20), (16, 50), (32, 100))  # prompt tokens, beams

Search = Callable[[torch.Tensor, int], np.ndarray]
"""(prompt ids [1, S], width) -> SIDs [W, 3]"""


def random_model(layers: int, hidden: int) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=TEXT_TOKENS + sum(LEVEL_SIZES),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        initializer_range=0.1,
        pad_token_id=0,
        eos_token_id=None,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config).eval()


def random_space() -> SidSpace:
    rng = np.random.default_rng(0)
    every = np.stack(np.unravel_index(rng.choice(np.prod(LEVEL_SIZES), SIDS, replace=False), LEVEL_SIZES), axis=1)
    return SidSpace.of(every, LEVEL_SIZES)


def ours(model: Qwen2ForCausalLM, space: SidSpace, normalizer: Normalizer) -> Search:
    decoder = Decoder(DecoderConfig.read(model.config.to_dict()))
    decoder.load_state_dict(model.model.state_dict())
    decoder.eval()
    heads = LevelHeads(model.lm_head.weight, _offsets(), LEVEL_SIZES, normalizer)
    tables = ConstraintTables.build(space)

    def search(ids: torch.Tensor, width: int) -> np.ndarray:
        prefix = Prefix(decoder.embed_tokens(ids), torch.ones_like(ids, dtype=torch.bool))
        return space.sids[beam_search(decoder, heads, tables, prefix, width).sid[0].numpy()]

    return search


def hugging_face(model: Qwen2ForCausalLM, space: SidSpace | None) -> Search:
    """`generate`, constrained to `space` where it is given."""
    after: dict[tuple[int, ...], list[int]] = {}
    if space is not None:
        children: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for tokens in (space.sids + np.array(_offsets())).tolist():
            for level in range(3):
                children[tuple(tokens[:level])].add(tokens[level])
        after = {prefix: sorted(tokens) for prefix, tokens in children.items()}

    def search(ids: torch.Tensor, width: int) -> np.ndarray:
        length = ids.shape[1]
        allowed = (lambda _, seen: after[tuple(seen[length:].tolist())]) if space is not None else None
        out = model.generate(  # type: ignore[misc]  # its decorator confuses the checker
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=3,
            min_new_tokens=3,
            num_beams=width,
            num_return_sequences=width,
            do_sample=False,
            length_penalty=0.0,
            prefix_allowed_tokens_fn=allowed,
        )
        return out[:, length:].numpy() - np.array(_offsets())

    return search


def measure(sides: dict[str, Search], length: int, width: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of each side over the same prompts, sides in turns so that a slow spell hits all."""
    prompts = torch.randint(0, TEXT_TOKENS, (repeats + 2, 1, length), generator=torch.Generator().manual_seed(1))
    taken: dict[str, list[float]] = {name: [] for name in sides}
    same = 0
    for turn, ids in enumerate(prompts):
        found = {}
        for name, search in sides.items():
            started = time.perf_counter()
            found[name] = search(ids, width)
            if turn >= 2:  # the first two warm up
                taken[name].append((time.perf_counter() - started) * 1e3)
        same += {*map(tuple, found["ours"])} == {*map(tuple, found["hf constrained"])}
    return {
        "prompt": length,
        "beams": width,
        "same_sids": f"{same}/{len(prompts)}",
        "ms": {
            name: {
                "median": round(statistics.median(values), 2),
                "p10": round(float(np.quantile(values, 0.1)), 2),
                "p90": round(float(np.quantile(values, 0.9)), 2),
            }
            for name, values in taken.items()
        },
    }


def _offsets() -> tuple[int, int, int]:
    return TEXT_TOKENS, TEXT_TOKENS + LEVEL_SIZES[0], TEXT_TOKENS + LEVEL_SIZES[0] + LEVEL_SIZES[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=15)
    asked = parser.parse_args()

    model, space = random_model(asked.layers, asked.hidden), random_space()
    sides = {
        "ours": ours(model, space, "vocabulary"),
        "ours, children": ours(model, space, "children"),
        "hf constrained": hugging_face(model, space),
        "hf unconstrained": hugging_face(model, None),
    }
    with torch.inference_mode():
        rows = [measure(sides, *shape, asked.repeats) for shape in track(SHAPES, "measuring")]
    result = {
        "model": {"layers": asked.layers, "hidden": asked.hidden, "parameters": model.num_parameters(), "sids": SIDS},
        "repeats": asked.repeats,
        "machine": describe(),
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / f"search-{asked.layers}x{asked.hidden}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")

    table = Table("prompt / beams", *sides, "constrained : ours", "same SIDs", title="ms a query: median (p10 to p90)")
    for row in rows:
        cells = [f"{ms['median']:.1f} ({ms['p10']:.1f} to {ms['p90']:.1f})" for ms in row["ms"].values()]
        ratio = row["ms"]["hf constrained"]["median"] / row["ms"]["ours"]["median"]
        table.add_row(f"{row['prompt']} / {row['beams']}", *cells, f"{ratio:.1f}x", row["same_sids"])
    Console().print(table, f"{result['machine']}\nwritten to {path}")


if __name__ == "__main__":
    main()
