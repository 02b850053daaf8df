"""The section on held-out figures: all candidates on dev, and the test figures of `genrecall evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genrecall.reports.blocks import Block, Picture, code, figures, listing, plain
from genrecall.reports.collect import Run
from genrecall.reports.findings import evaluated
from genrecall.reports.words import interval, points, share

GENERATIVE = "generative"
TITLES = {"bm25": "BM25", "knn": "k-NN", "adapted": "adapted k-NN", "hybrid": "hybrid query"}
REGIMES = {"unseen": "Unseen queries", "recurring": "Recurring queries"}
MEASURES = ("R@10", "R@50", "nDCG@10", "Success@50")
DIFFERENCES = ("R@50", "nDCG@10")
FEW = 100  # dev queries, under which the choice of a candidate by a few points is chance


def held_out(run: Run, note: str) -> Iterable[Block]:
    """Dev figures, then test figures where there are any, else the command that makes them."""
    yield f"### Dev queries of {code(run.data['split'])}{note}"
    yield from _dev(run)
    if not run.evaluation:
        yield f"### Test queries{note}"
        yield "Not asked yet. Every channel and their fusions, with intervals, come from:"
        yield listing(f"genrecall evaluate -c {run.folder / 'config.yaml'} --offline", "sh")
        return
    evaluation = run.evaluation
    yield f"### Test queries{' (simulated)' if evaluation['simulated'] else note}"
    whose = "The published model is that of one of its folds." if evaluated(run) else "Its models are other ones."
    yield (
        f"From `evaluation.json` ({plain(evaluation['dataset'])}, {evaluation['mode']}); means with 95% intervals over "
        f"queries. {whose} The whole is in `evaluation.md`."
    )
    for name, regime in evaluation["regimes"].items():
        yield from _regime(run, name, regime, note)


def _dev(run: Run) -> Iterable[Block]:
    there = {candidate.kind: candidate.dev for candidate in run.candidates if candidate.dev}
    if not there:
        yield "No figures yet." if run.has_dev else "There are no dev queries: the first kind of codes is published."
        return
    names = list(dict.fromkeys(name for dev in there.values() for name in dev))
    best = {name: max(dev.get(name, 0.0) for dev in there.values()) for name in names}

    def cell(dev: Mapping[str, float], name: str) -> str:
        if name not in dev:
            return "-"
        return f"**{share(dev[name])}**" if len(there) > 1 and dev[name] == best[name] else share(dev[name])

    marked = {kind: code(kind) + (", published" if kind == run.chosen else "") for kind in there}
    header = [f"{name} (decides)" if name == run.select_by else plain(name) for name in names]
    yield figures(
        ["codes", *header], [[marked[kind], *(cell(dev, name) for name in names)] for kind, dev in there.items()]
    )
    told = "R@k and nDCG@10 are of the generative channel alone; fused: with BM25 and k-NN; union: of the three at "
    told += f"{run.config['evaluation']['budget']} candidates. Bold: the best of a column."
    queries = run.data["parts"]["dev"]["queries"]
    if len(there) > 1 and queries < FEW:
        told += f" There are {queries} dev queries: a lead of a few points may be chance."
    yield told


def _regime(run: Run, name: str, regime: Mapping[str, Any], note: str) -> Iterable[Block]:
    folds = "one split" if regime["folds"] == 1 else f"{regime['folds']} folds"
    yield f"**{REGIMES.get(name, plain(name))}**{note}: {regime['queries']:,} queries, {folds}."
    yield figures(
        ["", *MEASURES],
        [[label(system), *(interval(of[measure]) for measure in MEASURES)] for system, of in regime["systems"].items()],
    )
    rows: dict[tuple[str, str], dict[str, str]] = {}
    union = [{"measure": "union", **row} for row in regime["union"]["differences"]]
    for row in [*regime["differences"], *union]:
        adds = row["system"].startswith(f"{row['against'].partition(':')[0]}+{GENERATIVE}")
        if adds and row["measure"] in (*DIFFERENCES, "union"):
            weights = row["system"].partition(":")[2] or "equal"
            rows.setdefault((row["against"].partition(":")[0], weights), {})[row["measure"]] = points(row)
    if rows:
        yield "What the generative channel adds, in points; bold: the interval leaves zero out."
        yield figures(
            ["to", *DIFFERENCES, f"union of {regime['union']['budget']}"],
            [
                [f"{label(against)}, {weights}", *(of.get(measure, "-") for measure in (*DIFFERENCES, "union"))]
                for (against, weights), of in rows.items()
            ],
        )
    plot = _run_folder(run) / f"evaluation-{name}.png"
    if plot.exists():
        yield Picture(plot.stem, f"{REGIMES.get(name, name)}{note}", plot.read_bytes)


def label(system: str) -> str:
    """`bm25+knn:tuned` -> `BM25 + k-NN, tuned`."""
    channels, _, weighting = system.partition(":")
    words = " + ".join(TITLES.get(name, plain(name)) for name in channels.split("+"))
    return words + (f", {plain(weighting)}" if weighting else "")


def _run_folder(run: Run) -> Path:
    return run.folder.parents[1]
