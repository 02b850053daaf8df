"""What lighter weights cost in quality and gain in time: every engine and precision on the judged queries of a bundle.

    genrecall train && genrecall export --dtype float32 && genrecall export --dtype int8
    python -m benchmarks.precision [--bundles bundles]

Every judged query of the bundle's dataset is searched on each side, one at a time, in turns; the reference is torch in
float32. Recall counts relevant items found through the SIDs; its loss is paired query by query, with a bootstrap
interval. Exports that the bundle lacks are made first. Writes benchmarks/results/precision.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.machine import machine_info
from genrecall import bundle
from genrecall.bundle import Bundle, codes_of
from genrecall.config.data import DataSection
from genrecall.data.readers import read_dataset
from genrecall.decoding import GeneratedSids
from genrecall.evaluation.channels_offline import generative
from genrecall.evaluation.metrics import Evaluator, bootstrap
from inference_server.engines import Engine, create_engine
from trainer.export.attach import attach_onnx

SIDES = (
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("onnx", "float32"),
    ("onnx", "float16"),
    ("onnx", "int8"),
)
SIDS, DEPTH, RESAMPLES, SEED = 50, 200, 10_000, 13
MEASURES = ("R@10", "R@50", "nDCG@10")


def open_sides(opened: Bundle, texts: list[str]) -> dict[str, Engine]:
    made = {}
    for name, dtype in track(SIDES, "opening"):
        if name == "onnx" and not (opened.path / "onnx" / dtype).is_dir():
            attach_onnx(opened, dtype, texts[:32])  # type: ignore[arg-type]
        made[f"{name} {dtype}"] = create_engine(opened, "cpu", name, dtype)  # type: ignore[arg-type]
    return made


def search_all(
    sides: dict[str, Engine], texts: list[str], passes: int = 3
) -> tuple[dict[str, GeneratedSids], dict[str, Any]]:
    """Answers to every text, and milliseconds a text of each side, in turns; the first pass warms up."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    answers: dict[str, list[GeneratedSids]] = {name: [] for name in sides}
    for turn in track(range(passes + 1), "searching"):
        for text in texts:
            for name, engine in sides.items():
                started = time.perf_counter()
                generated = engine.search(engine.prepare([text]), SIDS)
                if turn:
                    taken[name].append((time.perf_counter() - started) * 1e3)
                else:
                    answers[name].append(generated)
    parts = ("codes", "scores", "valid")
    joined = {
        name: GeneratedSids(*(np.concatenate([getattr(a, p) for a in parts_of]) for p in parts))
        for name, parts_of in answers.items()
    }
    return joined, {name: [round(float(np.quantile(t, q)), 2) for q in (0.1, 0.5, 0.9)] for name, t in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, default=Path("bundles"))
    parser.add_argument("--bundle", default="current")
    args = parser.parse_args()

    opened = bundle.open(bundle.resolve(args.bundles, args.bundle))
    config = opened.manifest["config"]
    dataset = read_dataset(DataSection.model_validate(config["data"]))
    evaluator = Evaluator(dataset.judgments, config["data"]["relevant"], MEASURES)
    queries = dataset.queries.filter(np.isin(dataset.queries["query_id"].to_numpy(), evaluator.query_ids))
    texts = queries["text"].to_pylist()
    sides = open_sides(opened, texts)
    answers, milliseconds = search_all(sides, texts)

    items, reference = opened.items(), "torch float32"
    values, rows = {}, []
    for name, answer in answers.items():
        # The channel searches in batches of its own; the answers are precomputed, in the order of the queries.
        rows_left = iter(range(len(texts)))

        def generate(
            some: list[str], k: int, answer: GeneratedSids = answer, rows_left: Any = rows_left
        ) -> GeneratedSids:
            rows_now = [next(rows_left) for _ in some]
            return GeneratedSids(answer.codes[rows_now], answer.scores[rows_now], answer.valid[rows_now])

        channel = generative(generate, items["item_id"].to_pylist(), codes_of(items), SIDS)
        values[name] = evaluator.values(channel(queries, DEPTH))
    first = answers[reference].codes
    for name, answer in answers.items():
        shared = [len({*map(tuple, a)} & {*map(tuple, b)}) / SIDS for a, b in zip(first, answer.codes, strict=True)]
        loss = {m: bootstrap(values[name][m] - values[reference][m], RESAMPLES, SEED) for m in MEASURES}
        rows.append(
            {
                "side": name,
                "ms_p10_median_p90": milliseconds[name],
                "times_as_fast": round(milliseconds[reference][1] / milliseconds[name][1], 2),
                "same_first": round(float((first[:, 0] == answer.codes[:, 0]).all(-1).mean()), 4),
                "overlap": round(float(np.mean(shared)), 4),
                **{m: round(float(values[name][m].mean()), 4) for m in MEASURES},
                "difference": {m: [round(v, 4) for v in loss[m]] for m in MEASURES},
            }
        )
    result = {
        "bundle": {key: opened.manifest[key] for key in ("codebook", "model", "items", "sids")},
        "dataset": str(config["data"]["folder"]),
        "queries": len(texts),
        "sids_asked": SIDS,
        "torch_threads": torch.get_num_threads(),
        "machine": machine_info(),
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / "precision.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    shown = Table("side", "ms a query (p10 to p90)", "times as fast", "same first SID", "same SIDs", *MEASURES)
    for row in rows:
        p10, median, p90 = row["ms_p10_median_p90"]
        points = [
            f"{row[m]:.3f} ({100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] points)"
            for m, (mean, low, high) in row["difference"].items()
        ]
        speed = f"{median} ({p10} to {p90})", f"{row['times_as_fast']}"
        shown.add_row(row["side"], *speed, f"{row['same_first']:.1%}", f"{row['overlap']:.1%}", *points)
    Console().print(shown, f"{len(texts)} judged queries; {result['machine']}\nwritten to {path}")


if __name__ == "__main__":
    main()
