"""Every plot of every report. Pure: what the parts wrote as JSON goes in, a Figure comes out."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genrecall.reports.findings import CLIPPED, KL, ZERO_VARIANCE
from genrecall.reports.markdown import system
from genrecall.reports.stages import Stage

COLOURS = ("#2f6db3", "#d1495b", "#3a9679", "#b07aa1")  # of the candidates, in their order
WITHOUT, WITH = "#5b6b7b", "#d1495b"  # systems without and with the generative channel
OUTCOMES = {
    "purchased": "#1b7837",
    "clicked": "#7fbf7b",
    "exposed": "#f2c14e",
    "valid": "#c7ccd1",
}
MEASURE = "R@50"  # of the plot of an evaluation and of its verdict
BASE = "bm25+adapted"  # the system to beat, fused by RRF
MAIN = (  # system and what it is compared with, in the order of the first table
    (f"{BASE}:equal", ""),
    ("generative", f"{BASE}:equal"),
    ("generative", "linear"),
    ("generative_text", f"{BASE}:equal"),
    (f"{BASE}+generative:equal", f"{BASE}:equal"),
    (f"{BASE}+generative:equal", f"{BASE}+placebo:equal"),
    (f"{BASE}+generative_text:equal", f"{BASE}:equal"),
    (f"{BASE}+generative:tuned", f"{BASE}:tuned"),
    ("linear", f"{BASE}:equal"),
    (f"{BASE}+linear:equal", f"{BASE}:equal"),
    (f"{BASE}+placebo:equal", f"{BASE}:equal"),
    ("bm25+rocchio:equal", f"{BASE}:equal"),
    ("bm25+rocchio+generative:equal", "bm25+rocchio:equal"),
    ("boosted", f"{BASE}:equal"),
    ("boosted+rocchio:equal", f"{BASE}:equal"),
    ("boosted+rocchio+generative:equal", "boosted+rocchio:equal"),
)


def png(figure: Figure) -> bytes:
    """The same bytes for the same drawing: nothing of the machine or the program is written into it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def logs(facts: Mapping[str, Any], title: str) -> Figure:
    """Left: how often an item is clicked by its rank. Right: how long the history of a request is."""
    figure, (left, right) = _panels(title, 2, (11, 4.4))
    shown = facts["positions"]
    left.bar([of["position"] for of in shown], [100 * of["clicked"] / of["shown"] for of in shown], color="tab:blue")
    left.set(xlabel="rank in the answer", ylabel="clicked, % of shown", title="Clicks by rank")
    right.bar(range(len(facts["history"])), facts["history"], color="tab:orange")
    right.set(xlabel="recent items", ylabel="requests", title="Histories")
    right.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def codes(facts: Mapping[str, Any], title: str) -> Figure:
    """Left: how evenly each level's codes are used (Lorenz curves). Right: how many items sit in SIDs of each size."""
    figure, (left, right) = _panels(title, 2, (11, 4.4))
    for depth, level in enumerate(facts["levels"], 1):
        curve = level["lorenz"]
        label = f"level {depth}: Gini {level['gini']:.2f}, {level['used']:,} of {level['size']:,} codes used"
        left.plot([n / (len(curve) - 1) for n in range(len(curve))], curve, label=label, linewidth=2)
    left.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="all codes used alike")
    left.set(xlabel="share of codes, least used first", ylabel="share of items", xlim=(0, 1), ylim=(0, 1))
    left.set_title("Use of the codes")
    left.legend(frameon=False, fontsize=9, loc="upper left")
    sids = facts["sids"]
    number = {int(size): sids["sizes"][size] for size in sorted(sids["sizes"], key=int)}
    right.bar(list(number), [size * of for size, of in number.items()], width=0.85, color="tab:blue")
    right.axvline(sids["mean_items"], color="tab:orange", label=f"mean of SIDs: {sids['mean_items']:.1f}")
    right.axvline(sids["seen_items"], color="tab:red", label=f"seen by an item: {sids['seen_items']:.1f}")
    right.set(xlabel="items in a SID", ylabel="items", xlim=(0, max(10, max(number) + 1)))
    right.set_title("Items by the size of their SID")
    right.yaxis.set_major_formatter("{x:,.0f}")
    right.legend(frameon=False)
    return figure


def codes_training(history: Sequence[Mapping[str, float]], warmup: int, title: str) -> Figure:
    """The terms of CQ-SID's objective by epoch, a panel each. warmup: epochs before there were codebooks."""
    names = list(dict.fromkeys(name for epoch in history for name in epoch if any(e.get(name) for e in history)))
    figure, panels = _panels(title, len(names), (11, 2.9))
    for axes, name in zip(panels, names, strict=True):
        known = [(number, epoch[name]) for number, epoch in enumerate(history, 1) if epoch.get(name)]
        _line(axes, [number for number, _ in known], [value for _, value in known], COLOURS[0])
        if 0 < warmup < len(history):
            axes.axvline(warmup + 0.5, color="0.55", linestyle=":", linewidth=1)
        axes.set(title=name, xlabel="epoch", xlim=(0.5, len(history) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    return figure


def stage(stages: Mapping[str, Stage], starts: Mapping[str, float], title: str) -> Figure:
    """One stage of every candidate. Left: the loss by step. Right: dev recall, the step that was kept marked.

    stages: kind of codes -> the stage. starts: -> dev recall before it, where it is known: a dotted line.
    """
    dev_set = next((of.dev_set for of in stages.values() if of.evaluations), "")
    figure, (left, right) = _panels(title, 2, (11, 3.9))
    for colour, (kind, of) in zip(cycle(COLOURS), stages.items(), strict=False):
        _line(left, *of.series("loss"), colour, kind)
        recall = dict(of.evaluations)
        _line(right, list(recall), list(recall.values()), colour, kind)
        if recall and kind in starts:
            right.axhline(starts[kind], color=colour, linestyle=":", linewidth=1.3)
        if of.recall is not None and of.best_step in recall:
            right.plot(of.best_step, of.recall, "*", color=colour, markersize=15, markeredgecolor="white")
    left.set(xlabel="step", ylabel="loss", title="Loss on the training batches")
    if left.lines:
        left.legend(frameon=False)
    if not dev_set:
        right.set_axis_off()
        right.text(0.5, 0.5, "no held-out data to evaluate on", ha="center", color="0.5", transform=right.transAxes)
        return figure
    right.set(xlabel="step", ylabel="dev recall", title=f"Recall on {dev_set}")
    if starts:
        right.plot([], [], color="0.4", linestyle=":", linewidth=1.3, label="before the stage")
    right.plot([], [], "*", color="0.4", markersize=10, label="kept")
    right.legend(frameon=False, fontsize=8)
    return figure


def alignment(of: Stage, title: str) -> Figure:
    """Eight panels: what was earned, what was sampled, and how far the policy moved. Dashed: where the report warns."""
    figure, panels = _panels(title, 4, (12.5, 6.2), rows=2)
    reward, outcomes, *others = panels
    _line(reward, *of.series("reward"), COLOURS[0], "sampled SIDs")
    _line(reward, *of.series("group_reward"), COLOURS[1], "group, experts in it")
    reward.set_title("Reward")
    reward.legend(frameon=False, fontsize=8)
    steps = of.series("share_valid")[0]
    shares = [of.series(f"share_{name}")[1] for name in OUTCOMES]
    if steps and all(len(values) == len(steps) for values in shares):
        outcomes.stackplot(steps, shares, colors=list(OUTCOMES.values()), labels=list(OUTCOMES))
        outcomes.legend(fontsize=7, loc="lower right", framealpha=0.85, edgecolor="none")
        outcomes.margins(x=0)
    outcomes.set(title="What sampled SIDs are", ylim=(0, 1))
    group = of.section["group"]
    kl_bound = KL if max(of.series("kl")[1], default=0.0) > KL / 2 else None
    lines: list[tuple[str, str, float | None, float | None]] = [  # name, title, top, where the report warns
        ("zero_variance", "Groups of one reward throughout", 1, ZERO_VARIANCE),
        ("expert_wins", "Groups where an expert is best", 1, None),
        ("kl", "KL to the model before, nats a code", None, kl_bound),
        ("entropy", "Entropy of a sampled SID, nats", None, None),
        ("clipped", "Share of ratios clipped", 1, CLIPPED),
        ("distinct", f"Distinct SIDs of a group of {group}", group + 0.3, None),
    ]
    for axes, (name, words, top, bound) in zip(others, lines, strict=True):
        _line(axes, *of.series(name), COLOURS[0])
        if bound is not None:
            axes.axhline(bound, color="0.55", linestyle="--", linewidth=1)
        axes.set_title(words)
        axes.set_ylim(bottom=0, top=top)
    for axes in panels:
        axes.set_xlabel("step")
    return figure


def evaluation(regime: Mapping[str, Any], title: str) -> Figure:
    """Recall of every system, the differences of the first table, and the recall of the union by budget.

    regime: what `genrecall.evaluation.results.analyse` returns.
    """
    title = f"{title}: {regime['queries']} queries, 95% intervals"
    height = 1.5 + 0.24 * len(regime["systems"])
    figure, (left, middle, right) = _panels(title, 3, (18, height), grid="x")
    _intervals(left, [(system(name), name, of[MEASURE]) for name, of in regime["systems"].items()], 9)
    left.set_xlabel(MEASURE)
    differences = [
        (f"{system(row['system'])}\nagainst {system(row['against'])}", row["system"], row)
        for row in regime["differences"]
        if row["measure"] == MEASURE and (row["system"], row["against"]) in MAIN
    ]
    _intervals(middle, differences, 7)
    middle.axvline(0, color="black", linewidth=0.8)
    middle.set_xlabel(f"difference in {MEASURE}")
    curves = {name: of for name, of in regime["curve"].items() if "knn" not in name.split("+")}
    for name, recall in curves.items():
        style = "-" if "generative" in name else "--"
        right.plot(list(map(int, recall)), list(recall.values()), style, marker=".", label=system(name))
    right.set(xlabel="candidates, shared equally by the channels", ylabel="recall of the union")
    right.grid(alpha=0.3)
    right.legend(fontsize=9)
    return figure


def _intervals(axes: Axes, rows: Sequence[tuple[str, str, Mapping[str, float]]], size: int) -> None:
    """rows: (words, system, mean with its interval)."""
    for place, (_, name, of) in enumerate(rows):
        colour = WITH if "generative" in name else WITHOUT
        axes.plot([of["low"], of["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(of["mean"], place, "o", color=colour)
    axes.set_yticks(range(len(rows)), [words for words, *_ in rows], fontsize=size)
    axes.invert_yaxis()


def _panels(
    title: str, columns: int, size: tuple[float, float], rows: int = 1, grid: str = "y"
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.grid(axis=grid, alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _line(axes: Axes, steps: list[int], values: list[float], colour: str, label: str | None = None) -> None:
    if steps:
        marker = "o" if len(steps) < 40 else None
        axes.plot(steps, values, color=colour, linewidth=1.8, marker=marker, markersize=3.5, label=label)
