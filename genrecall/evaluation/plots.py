"""One drawing a regime: recall of every system, what the generative channel adds, and the union by budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

MEASURE = "R@50"
PLAIN, ACCENT = "#5b6b7b", "#d1495b"  # systems without and with the generative channel


def draw(regime: Mapping[str, Any], path: Path, title: str, label: Callable[[str], str]) -> None:
    """Write a PNG. regime: what `results.analyse` returns. label: system -> words."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(16, 5.2), layout="constrained")
    systems = {label(name): of[MEASURE] for name, of in regime["systems"].items()}
    _intervals(left, systems, MEASURE)
    differences = {
        f"{label(row['system'])}\nagainst {label(row['against'])}": row
        for row in regime["differences"]
        if row["measure"] == MEASURE and "+" in row["system"]  # single channels are beside each other on the left
    }
    _intervals(middle, differences, f"difference in {MEASURE}")
    middle.axvline(0, color="black", linewidth=0.8)
    _curves(right, regime["curve"], label)
    figure.suptitle(f"{title}: {regime['queries']} queries, 95% intervals", fontsize=13)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _intervals(axes: Axes, rows: Mapping[str, Mapping[str, float]], name: str) -> None:
    for place, (text, of) in enumerate(rows.items()):
        color = ACCENT if "generative" in text.split("\n")[0] else PLAIN
        axes.plot([of["low"], of["high"]], [place, place], color=color, linewidth=2)
        axes.plot(of["mean"], place, "o", color=color)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=7 if any("\n" in text for text in rows) else 9)
    axes.invert_yaxis()
    axes.set_xlabel(name)
    axes.grid(axis="x", alpha=0.3)


def _curves(axes: Axes, curves: Mapping[str, Mapping[str, float]], label: Callable[[str], str]) -> None:
    for name, points in curves.items():
        style = "-" if "generative" in name else "--"
        color = {"bm25+knn": PLAIN, "bm25+adapted": "#30638e", "bm25+knn+adapted": "#8d99ae"}.get(name)
        color = color or (ACCENT if "adapted" not in name else "#edae49")
        axes.plot(
            [int(budget) for budget in points], list(points.values()), style, marker=".", color=color, label=label(name)
        )
    axes.set_xlabel("candidates, shared equally by the channels")
    axes.set_ylabel("recall of the union")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
