"""The report of an evaluation: its verdict and figures for a terminal; evaluation.json, evaluation.md and plots.

Every figure of a simulated dataset is labelled so: in each line of the verdict, each heading, caption and plot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from genrecall.reports import plots
from genrecall.reports.markdown import (
    CHANNELS,
    REGIMES,
    Markdown,
    bold,
    clear_points,
    points,
    share,
    simulated,
    system,
    table,
)
from genrecall.reports.render import Plot, Report, render

SHOWN = ("R@10", "R@50", "R@200", "nDCG@10")  # measures in a terminal
QUERIES = {
    "unseen": "queries never seen in training",
    "recurring": "recurring queries",
    "returning": "queries that return, the same items counted again,",
}
OFFLINE = (
    "linear",
    "placebo",
    "rocchio",
    "boosted",
)  # controls that are computed offline beside the channels of a node
FUSED = "A + B: one list by reciprocal rank fusion, weights equal or tuned on dev"
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
    named = partial(_named, node=evaluation["mode"] == "node")
    text = render(
        "evaluation",
        evaluation=evaluation,
        note=simulated(evaluation),
        headings={name: heading(name, evaluation) for name in drawn},
        verdict=verdict(evaluation),
        main={name: main_table(regime, named) for name, regime in evaluation["regimes"].items()},
        named=named,
        offline=[named(name) for name in OFFLINE] if evaluation["mode"] == "node" else [],
        differences={name: _differences(regime) for name, regime in evaluation["regimes"].items()},
        quantizers={name: _quantizers(regime) for name, regime in evaluation["regimes"].items()},
        plots=drawn,
    )
    return Report("evaluation", text, tuple(drawn.values()), evaluation)


def heading(regime: str, evaluation: Mapping[str, Any]) -> str:
    cut = evaluation.get("regimes", {}).get(regime, {}).get("cut")
    first = "" if regime == "returning" else "first "
    when = f", items {first}wanted after {cut[:16].replace('T', ' ')}" if cut else ""
    return REGIMES.get(regime, regime) + when + simulated(evaluation)


def added(regime: Mapping[str, Any], measures: Iterable[str]) -> list[dict[str, Any]]:
    """What the generative channel adds: the differences of each system with it to the same one without, union last."""
    union = [{"measure": "union", **row} for row in regime["union"]["differences"]]
    return [
        row
        for row in [*regime["differences"], *union]
        if row["system"].partition(":")[0] == f"{row['against'].partition(':')[0]}+generative"
        and row["measure"] in measures
    ]


ASKED = (  # of the verdict: system, what it is compared with, and how that is said
    (f"{plots.BASE}+generative:equal", f"{plots.BASE}:equal", "as a third list beside BM25 + tuned k-NN"),
    (f"{plots.BASE}+generative:equal", f"{plots.BASE}+placebo:equal", "as a third list against a placebo as the third"),
    ("generative", f"{plots.BASE}:equal", "alone against BM25 + tuned k-NN"),
    ("generative", "linear", "alone against the linear control without SIDs"),
    ("bm25+rocchio+generative:equal", "bm25+rocchio:equal", "as a third list beside BM25 + Rocchio k-NN"),
    ("boosted+rocchio+generative:equal", "boosted+rocchio:equal", "as a third list beside boosted BM25 + Rocchio k-NN"),
)


def verdict(evaluation: Mapping[str, Any]) -> list[str]:
    """Who wins, by how much, how sure: a sentence a regime, each figure with its interval.

    The winner is told by the figures against the baseline: somebody wins only where an interval excludes
    zero, and where one does on either side it depends.
    """
    lines = []
    for name, regime in evaluation["regimes"].items():
        row_of = _row_of(regime)
        found = [(row_of[one, other], other, how) for one, other, how in ASKED if (one, other) in row_of]
        if found:
            baseline = [row for row, other, _ in found if other == f"{plots.BASE}:equal"]
            figures = "; ".join(f"{points(row)} {how}" for row, _, how in found)
            lines.append(
                f"On {QUERIES.get(name, f'{name} queries')} {_winner(baseline)}, in points of {plots.MEASURE} [95% "
                f"interval]: {figures}{simulated(evaluation)}"
            )
    return lines


def _winner(rows: Sequence[Mapping[str, float]]) -> str:
    gains, losses = any(row["low"] > 0 for row in rows), any(row["high"] < 0 for row in rows)
    if gains and losses:
        return "it depends on how it is used whether generative recall wins"
    if gains:
        return "generative recall wins"
    return "generative recall loses" if losses else "it is not certain whether generative recall wins"


def main_table(regime: Mapping[str, Any], named: Callable[[str], str]) -> Markdown:
    """The systems that decide, with their difference to the one that each has to beat."""
    row_of, union = _row_of(regime), regime["union"]
    union_of = {(row["system"], row["against"]): row for row in union["differences"]}
    rows = []
    for name, against in plots.MAIN:
        if name not in regime["systems"]:
            continue
        figures = [share(regime["systems"][name][measure]["mean"]) for measure in SHOWN]
        channels, _, weights = name.partition(":")
        whole = union["systems"].get(channels) if weights != "tuned" else None
        apart = union_of.get((channels, against.partition(":")[0])) if whole else None
        rows.append(
            [
                named(name) if against else bold(f"{named(name)}: the baseline"),
                *figures,
                share(whole["mean"]) if whole else "",
                named(against),
                clear_points(row_of[name, against]) if against else "",
                clear_points(apart) if apart else "",
            ]
        )
    budget = f"all {union['budget']}"
    return table(["", *SHOWN, budget, "against", f"{plots.MEASURE}, points", f"{budget}, points"], rows)


def _row_of(regime: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(system, against) -> their difference in the measure that the verdict is about."""
    rows = (row for row in regime["differences"] if row["measure"] == plots.MEASURE)
    return {(row["system"], row["against"]): row for row in rows}


def _named(name: str, node: bool) -> str:
    """The words for a system; through a node, with what was computed offline marked."""
    words = system(name)
    for channel in OFFLINE if node else ():
        words = words.replace(CHANNELS[channel], f"{CHANNELS[channel]} (offline)")
    return words


def summary(evaluation: Mapping[str, Any]) -> str:
    """The figures that matter, in lines for a terminal; the whole is in evaluation.md."""
    named, lines = partial(_named, node=evaluation["mode"] == "node"), []
    for name, regime in evaluation["regimes"].items():
        union = f"union of {regime['union']['budget']}"
        lines.append(f"{heading(name, evaluation)} of {evaluation['dataset']}: {regime['queries']} queries")
        shown = {of: named(of) for of in regime["systems"] if "+" not in of or of in dict(plots.MAIN)}
        width = max(map(len, shown.values()))
        lines.append("  ".join([f"  {'':{width}}", *(f"{measure:>7}" for measure in SHOWN)]))
        for of, words in shown.items():
            cells = (f"{share(regime['systems'][of][measure]['mean']):>7}" for measure in SHOWN)
            lines.append("  ".join([f"  {words:{width}}", *cells]))
        lines.append("  with the generative channel against without, in points [95% interval]:")
        for row in added(regime, ("R@50", "nDCG@10", "union")):
            measure = union if row["measure"] == "union" else row["measure"]
            lines.append(f"    {measure:13} {points(row):24} over {named(row['against'])}")
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
