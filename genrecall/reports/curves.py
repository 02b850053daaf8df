"""The plots of a report: losses and dev recall of a stage, the figures of alignment. Pure: records in, Figures out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genrecall.reports.findings import CLIPPED, KL, ZERO_VARIANCE
from genrecall.reports.stages import Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2f6db3", "#d1495b", "#3a9679", "#b07aa1")  # of the candidates, in their order
OUTCOMES = {
    "purchased": "#1b7837",
    "clicked": "#7fbf7b",
    "exposed": "#f2c14e",
    "valid": "#c7ccd1",
    "invalid": "#b2182b",
}


def losses(stages: Mapping[str, Stage], starts: Mapping[str, float], title: str) -> Figure:
    """One stage of every candidate. Left: the loss by step. Right: dev recall, the step that was kept marked.

    stages: kind of codes -> the stage. starts: -> dev recall before it, where it is known: a dotted line.
    """
    judged = next((stage.judged for stage in stages.values() if stage.looks), "")
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    for colour, (kind, stage) in zip(COLOURS * len(stages), stages.items(), strict=False):
        _line(left, *stage.series("loss"), colour, kind)
        steps, recalls = [step for step, _ in stage.looks], [recall for _, recall in stage.looks]
        _line(right, steps, recalls, colour, kind)
        if steps and kind in starts:
            right.axhline(starts[kind], color=colour, linestyle=":", linewidth=1.3)
        if stage.recall is not None and stage.best_step in steps:
            right.plot(stage.best_step, stage.recall, "*", color=colour, markersize=15, markeredgecolor="white")
    left.set(xlabel="step", ylabel="loss", title="Loss on the training batches")
    right.set(xlabel="step", ylabel="dev recall", title=f"Recall on {judged}")
    if starts:
        right.plot([], [], color="0.4", linestyle=":", linewidth=1.3, label="before the stage")
    right.plot([], [], "*", color="0.4", markersize=10, label="kept")
    right.legend(frameon=False, fontsize=8)
    if left.lines:
        left.legend(frameon=False)
    if not judged:
        right.legend().remove()
        right.set_axis_off()
        right.text(0.5, 0.5, "nothing held out to look at", ha="center", color="0.5", transform=right.transAxes)
    return figure


def rewards(stage: Stage, title: str) -> Figure:
    """Eight panels of alignment: what was earned, what was drawn, and how far the policy went."""
    figure = Figure(figsize=(12.5, 6.2), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(2, 4).flat
    drawings: list[Callable[[Axes, Stage], None]] = [
        *(_rewards, _outcomes, _zero_variance, _wins),
        *(_kl, _entropy, _clipped, _distinct),
    ]
    for axes, draw in zip(panels, drawings, strict=True):
        draw(axes, stage)
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def codes_history(history: list[dict[str, float]], warmup: int, title: str) -> Figure:
    """The terms of CQ-SID's objective by epoch, a panel each. warmup: epochs before there were codebooks."""
    names = list(dict.fromkeys(name for epoch in history for name in epoch if any(e.get(name) for e in history)))
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
        known = [(number, epoch[name]) for number, epoch in enumerate(history, 1) if epoch.get(name)]
        _line(axes, [number for number, _ in known], [value for _, value in known], COLOURS[0])
        if 0 < warmup < len(history):
            axes.axvline(warmup + 0.5, color="0.55", linestyle=":", linewidth=1)
        axes.set(title=name, xlabel="epoch", xlim=(0.5, len(history) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    return figure


def _rewards(axes: Axes, stage: Stage) -> None:
    _line(axes, *stage.series("reward"), COLOURS[0], "sampled SIDs")
    _line(axes, *stage.series("group_reward"), COLOURS[1], "group, experts in it")
    axes.set_title("Reward")
    axes.legend(frameon=False, fontsize=8)


def _outcomes(axes: Axes, stage: Stage) -> None:
    steps = stage.series("share_valid")[0]
    shares = [stage.series(f"share_{name}")[1] for name in OUTCOMES]
    if steps and all(len(values) == len(steps) for values in shares):
        axes.stackplot(steps, shares, colors=list(OUTCOMES.values()), labels=list(OUTCOMES))
        axes.legend(fontsize=7, loc="lower right", framealpha=0.85, edgecolor="none")
        axes.margins(x=0)
    axes.set(title="What sampled SIDs are", ylim=(0, 1))


def _zero_variance(axes: Axes, stage: Stage) -> None:
    _line(axes, *stage.series("zero_variance"), COLOURS[0])
    _bound(axes, ZERO_VARIANCE)
    axes.set(title="Groups of one reward throughout", ylim=(0, 1))


def _wins(axes: Axes, stage: Stage) -> None:
    _line(axes, *stage.series("expert_wins"), COLOURS[0])
    axes.set(title="Groups where an expert is best", ylim=(0, 1))


def _kl(axes: Axes, stage: Stage) -> None:
    _line(axes, *stage.series("kl"), COLOURS[0])
    if max(stage.series("kl")[1], default=0.0) > KL / 2:
        _bound(axes, KL)
    axes.set_title("KL to the model before, nats a code")
    axes.set_ylim(bottom=0)


def _entropy(axes: Axes, stage: Stage) -> None:
    _line(axes, *stage.series("entropy"), COLOURS[0])
    axes.set_title("Entropy of a sampled SID, nats")
    axes.set_ylim(bottom=0)


def _clipped(axes: Axes, stage: Stage) -> None:
    _line(axes, *stage.series("clipped"), COLOURS[0])
    _bound(axes, CLIPPED)
    axes.set(title="Share of ratios clipped", ylim=(0, 1))


def _distinct(axes: Axes, stage: Stage) -> None:
    _line(axes, *stage.series("distinct"), COLOURS[0])
    axes.set(title=f"Distinct SIDs of a group of {stage.section['group']}", ylim=(0, stage.section["group"] + 0.3))


def _line(axes: Axes, steps: list[int], values: list[float], colour: str, label: str | None = None) -> None:
    if steps:
        marker = "o" if len(steps) < 40 else None
        axes.plot(steps, values, color=colour, linewidth=1.8, marker=marker, markersize=3.5, label=label)
    _tidy(axes)


def _bound(axes: Axes, value: float) -> None:
    """Where the report warns."""
    axes.axhline(value, color="0.55", linestyle="--", linewidth=1)


def _tidy(axes: Axes) -> None:
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
