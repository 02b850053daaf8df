"""The evaluation in words and tables: evaluation.json -> evaluation.md. Drawings are in `plots`.

Every figure of a simulated dataset is labelled so: in the heading and the caption of each table, and in each plot.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from genrecall.evaluation.metrics import MEASURES
from genrecall.evaluation.plots import draw
from genrecall.evaluation.results import ADAPTED, BM25, GENERATIVE, HYBRID, KNN

TITLES = {BM25: "BM25", KNN: "k-NN", ADAPTED: "adapted k-NN", GENERATIVE: "generative", HYBRID: "hybrid query"}
REGIMES = {"unseen": "Unseen queries", "recurring": "Recurring queries"}


def write(evaluation: dict[str, Any], folder: Path) -> list[Path]:
    """Write evaluation.json, evaluation.md and one plot a regime into `folder`; the files written.

    evaluation: {"dataset", "simulated", "items", "mode", "seed", "settings", "regimes": {name: results.analyse(...)}}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = {name: folder / f"evaluation-{name}.png" for name in evaluation["regimes"]}
    for name, path in plots.items():
        draw(evaluation["regimes"][name], path, title(name, evaluation), label)
    text = markdown(evaluation, {name: path.name for name, path in plots.items()})
    files = {"evaluation.json": json.dumps(evaluation, indent=1, ensure_ascii=False), "evaluation.md": text}
    for name, content in files.items():
        partial = folder / f"{name}.partial"
        partial.write_text(content + "\n", encoding="utf-8")
        os.replace(partial, folder / name)
    return [*(folder / name for name in files), *plots.values()]


def title(regime: str, evaluation: Mapping[str, Any]) -> str:
    return REGIMES[regime] + (" (simulated)" if evaluation["simulated"] else "")


def label(system: str) -> str:
    """`bm25+knn:tuned` -> `BM25 + k-NN, tuned`."""
    channels, _, weighting = system.partition(":")
    return " + ".join(TITLES[name] for name in channels.split("+")) + (f", {weighting}" if weighting else "")


def markdown(evaluation: dict[str, Any], plots: Mapping[str, str]) -> str:
    """The whole report. plots: regime -> file name of its drawing."""
    note = "simulated" if evaluation["simulated"] else ""
    parts = [f"# Evaluation on {evaluation['dataset']}" + (f" ({note})" if note else ""), _about(evaluation)]
    for name, regime in evaluation["regimes"].items():
        parts += [
            f"## {title(name, evaluation)}",
            _regime_about(name, regime),
            f"![{title(name, evaluation)}]({plots[name]})",
            _systems(regime, note),
            _differences(regime, note),
            _union(regime, note),
            _unique(regime, note),
            _codes(regime, note),
            _weights(regime, note),
            _examples(regime, note),
        ]
    return "\n\n".join(part for part in parts if part)


def summary(evaluation: Mapping[str, Any]) -> str:
    """The figures that matter, in lines for a terminal; the whole is in evaluation.md."""
    shown = ("R@10", "R@50", "R@200", "nDCG@10")
    lines = []
    for name, regime in evaluation["regimes"].items():
        heading = f"{title(name, evaluation)} of {evaluation['dataset']}: {regime['queries']} queries"
        lines += [heading, "  ".join([f"{'':42}", *(f"{measure:>7}" for measure in shown)])]
        for system, of in regime["systems"].items():
            lines.append("  ".join([f"  {label(system):40}", *(f"{_share(of[m]['mean']):>7}" for m in shown)]))
        lines.append("  with the generative channel against without, in points [95% interval]:")
        for row in (*regime["differences"], *({"measure": "union", **u} for u in regime["union"]["differences"])):
            compared = row["system"].startswith(row["against"].partition(":")[0] + "+" + GENERATIVE)
            if compared and row["measure"] in ("R@50", "nDCG@10", "union"):
                measure = f"union of {regime['union']['budget']}" if row["measure"] == "union" else row["measure"]
                lines.append(f"    {measure:13} {_points(row).strip('*'):24} over {label(row['against'])}")
        lines.append("")
    return "\n".join(lines)


def _about(evaluation: Mapping[str, Any]) -> str:
    settings = evaluation["settings"]
    how = "through an OpenSearch node" if evaluation["mode"] == "node" else "offline: the same channels without a node"
    lines = [
        f"{evaluation['items']:,} items; run {how}; {settings['depth']} items taken from every channel.",
        "R@k: share of the relevant items among the first k. nDCG@10 uses the grades. Success@k: hit rate, whether a "
        "relevant item is among the first k.",
        f"Intervals: 95%, paired bootstrap over queries, {settings['resamples']:,} resamples, seed "
        f"{evaluation['seed']}. **Bold**: the interval leaves zero out.",
        f"Fusion: reciprocal rank fusion, rank constant {settings['rank_constant']}, with equal weights or with "
        "weights tuned on dev queries only.",
        "`adapted k-NN` is the control: the training data of the generator spent on the query side of k-NN instead.",
    ]
    if evaluation["mode"] == "node":
        lines.append("`hybrid query`: one request of BM25, k-NN and generative, fused by the node with equal weights.")
    if evaluation["simulated"]:
        lines.insert(0, "**The judgments of this dataset are simulated: every figure below is a simulated figure.**")
    return "\n".join(lines)


def _regime_about(name: str, regime: Mapping[str, Any]) -> str:
    parts = f"{regime['folds']} folds by query" if regime["folds"] > 1 else "One split by query"
    what = {
        "unseen": f"{parts}, a generator and an adapter trained for each; no judgment of a test query reaches training "
        "or tuning.",
        "recurring": "Half of the relevant items of each query are known to training, the other half is to be found; "
        "the known ones are taken out of every list.",
    }[name]
    skipped = f" {regime['skipped']} judged queries without a relevant item are left out." if regime["skipped"] else ""
    return f"{what} {regime['queries']} test queries, {regime['relevant_items']:,} relevant items to find.{skipped}"


def _systems(regime: Mapping[str, Any], note: str) -> str:
    rows = []
    for name, of in regime["systems"].items():
        cells = [_share(of[measure]["mean"]) for measure in MEASURES]
        at = MEASURES.index("R@50")
        cells[at] += f" [{_share(of['R@50']['low'])}, {_share(of['R@50']['high'])}]"
        rows.append([label(name), *cells, f"{of['listed']:.0f}"])
    return _table("Systems", note, ["", *MEASURES, "items listed"], rows)


def _differences(regime: Mapping[str, Any], note: str) -> str:
    rows: dict[tuple[str, str], list[str]] = {}
    for difference in regime["differences"]:
        rows.setdefault((difference["system"], difference["against"]), []).append(_points(difference))
    cells = [[label(system), label(against), *values] for (system, against), values in rows.items()]
    return _table("Differences, in points", note, ["", "against", *MEASURES], cells)


def _union(regime: Mapping[str, Any], note: str) -> str:
    union = regime["union"]
    against = {row["system"]: row for row in union["differences"]}
    rows = []
    for name, of in union["systems"].items():
        each = union["budget"] // len(name.split("+"))
        compared = against.get(name)
        rows.append(
            [
                label(name),
                str(each),
                f"{of['distinct']:.0f}",
                f"{of['found']:,}",
                f"{_share(of['mean'])} [{_share(of['low'])}, {_share(of['high'])}]",
                f"{_points(compared)} against {label(compared['against'])}" if compared else "",
            ]
        )
    header = ["", "from each", "distinct candidates", "relevant found", "recall of the union", "difference, in points"]
    return _table(f"Union at an equal budget of {union['budget']} candidates", note, header, rows)


def _unique(regime: Mapping[str, Any], note: str) -> str:
    rows = [
        [
            label(row["channels"]),
            label(row["channel"]),
            str(row["finds"]),
            str(row["missed_by_others"]),
            f"{100 * row['mean']:.0f}% [{100 * row['low']:.0f}, {100 * row['high']:.0f}]",
        ]
        for row in regime["unique"]
    ]
    header = ["channels", "only in", "relevant items", "that the others miss", "share"]
    return _table("Relevant items that one channel alone finds", note, header, rows) if rows else ""


def _codes(regime: Mapping[str, Any], note: str) -> str:
    """The quantizers tried, from the notes of the folds: mean dev figures, and in how many folds each was chosen."""
    folds = [fold for fold in regime["notes"].values() if fold.get("candidates")]
    rows = []
    for kind in dict.fromkeys(kind for fold in folds for kind in fold["candidates"]):
        dev = [fold["candidates"][kind] for fold in folds if kind in fold["candidates"]]
        means = [_mean(d.get(name) for d in dev) for name in ("R@50", "nDCG@10", "fused R@50", "union")]
        chosen = sum(fold["chosen"] == kind for fold in folds)
        rows.append([kind, *map(_share, means), f"{chosen} of {len(folds)}"])
    header = ["quantizer", "R@50", "nDCG@10", "R@50 fused with BM25 + k-NN", "union", "chosen"]
    return _table("Codes, on dev queries", note, header, rows) if rows else ""


def _weights(regime: Mapping[str, Any], note: str) -> str:
    folds = list(regime["weights"])
    rows = [
        [label(name), *(" / ".join(f"{w:g}" for w in regime["weights"][fold][name].values()) for fold in folds)]
        for name in regime["weights"][folds[0]]
    ]
    return _table("Weights tuned on dev, a fold", note, ["", *folds], rows)


def _examples(regime: Mapping[str, Any], note: str) -> str:
    blocks = []
    for kind, heading in (("helps", "Where the generative channel helps most"), ("hurts", "Where it hurts most")):
        if regime["examples"][kind]:
            blocks.append(_caption(f"{heading}: R@50 of BM25 + k-NN -> with generative, equal weights", note))
            blocks.append("\n".join(line for example in regime["examples"][kind] for line in _example(example)))
    return "\n\n".join(blocks)


def _example(example: Mapping[str, Any]) -> Iterable[str]:
    without, with_it = example["R@50"].values()
    yield f"- `{example['query']}`: {_share(without)} -> {_share(with_it)} (relevant items: {example['relevant']})"
    for name, titles in (
        ("gained", example["gained"]),
        ("lost", example["lost"]),
        ("first of the generative channel", example["generative_top"]),
    ):
        if titles:
            more = f" and {len(titles) - 3} more" if len(titles) > 3 else ""
            yield f"  - {name}: " + "; ".join(_short(text) for text in titles[:3]) + more


def _table(caption: str, note: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_caption(caption, note), "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _caption(caption: str, note: str) -> str:
    return f"**{caption}**" + (f" ({note})" if note else "")


def _points(interval: Mapping[str, float]) -> str:
    text = f"{100 * interval['mean']:+.1f} [{100 * interval['low']:+.1f}, {100 * interval['high']:+.1f}]"
    return f"**{text}**" if interval["low"] > 0 or interval["high"] < 0 else text


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".replace("0.", ".", 1) if value < 1 else "1.000"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _short(text: str, width: int = 70) -> str:
    text = text.replace("|", "/")
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."
