"""The report of an evaluation: its verdict and figures for a terminal; evaluation.json, evaluation.md and plots.

Every figure of a simulated dataset is labelled so: in each line of the verdict, each heading, caption and plot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from genrecall.reports import plots
from genrecall.reports.markdown import REGIMES, points, share, simulated, system
from genrecall.reports.render import Plot, Report, render

SHOWN = ("R@10", "R@50", "R@200", "nDCG@10")  # measures in a terminal
BASE, CONTROL = "bm25+knn:tuned", "bm25+adapted:tuned"
QUERIES = {"unseen": "queries never seen in training", "recurring": "recurring queries"}
FUSED = "fused (A + B): one list by reciprocal rank fusion, weights equal or tuned on dev; the verdict takes tuned ones"
UNION = "union: every candidate of the channels, which share the budget equally, as a ranker after them would get them"


def evaluation_report(evaluation: Mapping[str, Any]) -> Report:
    """evaluation: what `genrecall.evaluation.pipeline.evaluate` returns."""
    drawn = {
        name: Plot(
            f"evaluation-{name}.png",
            heading(name, evaluation),
            partial(plots.evaluation, regime, heading(name, evaluation)),
        )
        for name, regime in evaluation["regimes"].items()
    }
    text = render(
        "evaluation",
        evaluation=evaluation,
        note=simulated(evaluation),
        headings={name: heading(name, evaluation) for name in drawn},
        verdict=verdict(evaluation),
        differences={name: _differences(regime) for name, regime in evaluation["regimes"].items()},
        quantizers={name: _quantizers(regime) for name, regime in evaluation["regimes"].items()},
        plots=drawn,
    )
    return Report("evaluation", text, tuple(drawn.values()), evaluation)


def heading(regime: str, evaluation: Mapping[str, Any]) -> str:
    return REGIMES.get(regime, regime) + simulated(evaluation)


def added(regime: Mapping[str, Any], measures: Iterable[str]) -> list[dict[str, Any]]:
    """What the generative channel adds: the differences of each system with it to the same one without, union last."""
    union = [{"measure": "union", **row} for row in regime["union"]["differences"]]
    return [
        row
        for row in [*regime["differences"], *union]
        if row["system"].startswith(f"{row['against'].partition(':')[0]}+generative") and row["measure"] in measures
    ]


def verdict(evaluation: Mapping[str, Any]) -> list[str]:
    """Does the generative channel help? A line a regime, then one on the control; each figure with its interval."""
    rows: dict[str, dict[str, Mapping[str, Any]]] = {BASE: {}, CONTROL: {}}
    for name, regime in evaluation["regimes"].items():
        for row in added(regime, [plots.MEASURE]):
            rows.setdefault(row["against"], {})[QUERIES.get(name, f"{name} queries")] = row
    lines = [f"On {of} the generative channel {_effect(row, 'BM25 + k-NN')}" for of, row in rows[BASE].items()]
    control = "; ".join(f"on {of} the channel {_effect(row, 'it')}" for of, row in rows[CONTROL].items())
    if control:
        lines.append(f"Control (BM25 + adapted k-NN: the training data of the generator spent on k-NN): {control}")
    return [line + simulated(evaluation) for line in lines]


def _effect(row: Mapping[str, Any], system: str) -> str:
    mean, _, bounds = points(row).partition(" ")
    figure = f"{mean} points of {row['measure']} {bounds}"
    if row["low"] > 0:
        return f"adds {figure} to {system}"
    return f"hurts {system}: {figure}" if row["high"] < 0 else f"makes no certain change to {system}: {figure}"


def summary(evaluation: Mapping[str, Any]) -> str:
    """The figures that matter, in lines for a terminal; the whole is in evaluation.md."""
    lines = []
    for name, regime in evaluation["regimes"].items():
        union = f"union of {regime['union']['budget']}"
        lines.append(f"{heading(name, evaluation)} of {evaluation['dataset']}: {regime['queries']} queries")
        lines.append("  ".join([f"{'':42}", *(f"{measure:>7}" for measure in SHOWN)]))
        for of, figures in regime["systems"].items():
            cells = (f"{share(figures[measure]['mean']):>7}" for measure in SHOWN)
            lines.append("  ".join([f"  {system(of):40}", *cells]))
        lines.append("  with the generative channel against without, in points [95% interval]:")
        for row in added(regime, ("R@50", "nDCG@10", "union")):
            measure = union if row["measure"] == "union" else row["measure"]
            lines.append(f"    {measure:13} {points(row):24} over {system(row['against'])}")
        lines.append("")
    return "\n".join([*lines, FUSED, UNION])


def _differences(regime: Mapping[str, Any]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """(system, against) -> the difference in each measure."""
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in regime["differences"]:
        rows.setdefault((row["system"], row["against"]), []).append(row)
    return rows


def _quantizers(regime: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """Kind of codes -> its mean dev figures over the folds, and in how many folds it was chosen."""
    folds = [fold for fold in regime["notes"].values() if fold.get("candidates")]
    rows = {}
    for kind in dict.fromkeys(kind for fold in folds for kind in fold["candidates"]):
        dev = [fold["candidates"][kind] for fold in folds if kind in fold["candidates"]]
        chosen = sum(fold["chosen"] == kind for fold in folds)
        means = (_mean(of.get(name) for of in dev) for name in ("R@50", "nDCG@10", "fused R@50", "union"))
        rows[kind] = [*map(share, means), f"{chosen} of {len(folds)}"]
    return rows


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
