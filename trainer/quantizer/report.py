"""The report of a codebook on disk: JSON for machines, a Markdown table, two pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write codes.json, codes.md, codes.png into `folder` (made where it is missing)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "codes.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (folder / "codes.md").write_text(markdown(report), encoding="utf-8")
    draw(report, folder / "codes.png")


def markdown(report: dict[str, Any]) -> str:
    """Two tables: the levels, the SIDs."""
    sids = report["sids"]
    lines = [
        f"# Codes of {report.get('kind', 'a codebook')}: {report['items']:,} items in {sids['count']:,} SIDs",
        "",
        "| level | codes | used | dead | perplexity | Gini | prefixes | children of a prefix above |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number, level in enumerate(report["levels"], 1):
        lines.append(
            f"| {number} | {level['size']:,} | {level['used']:,} | {level['dead']:,} | {level['perplexity']:.1f} | "
            f"{level['gini']:.2f} | {level['prefixes']:,} | {level['children']:.1f} |"
        )
    lines += [
        "",
        "Where levels 2 and 3 are numbered inside each parent (`hierarchical`, `per_parent`), low numbers are used",
        "more by construction: read prefixes and children there, not Gini.",
        "",
        "| items in a SID: mean | seen by an item | max | singletons (share of SIDs) | items in split SIDs |",
        "|---|---|---|---|---|",
        f"| {sids['mean_items']:.1f} | {sids['seen_items']:.1f} | {sids['max_items']} | {sids['singletons']:,} "
        f"({sids['singleton_share']:.1%}) | {sids['split_share']:.1%} |",
        "",
    ]
    return "\n".join(lines)


def draw(report: dict[str, Any], path: Path) -> None:
    """Left: how evenly each level's codes are used (Lorenz curves). Right: how many items sit in SIDs of each size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    figure.suptitle(f"{report.get('kind', 'codebook')}: {report['items']:,} items in {report['sids']['count']:,} SIDs")
    left, right = figure.subplots(1, 2)
    for depth, level in enumerate(report["levels"], 1):
        curve = level["lorenz"]
        label = f"level {depth}: Gini {level['gini']:.2f}, {level['used']:,} of {level['size']:,} codes used"
        left.plot(np.linspace(0, 1, len(curve)), curve, label=label, linewidth=2)
    left.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="all codes used alike")
    left.set(xlabel="share of codes, least used first", ylabel="share of items", xlim=(0, 1), ylim=(0, 1))
    left.set_title("Use of the codes")
    left.legend(frameon=False, fontsize=9, loc="upper left")

    sids = report["sids"]
    sizes = np.array(sorted(map(int, sids["sizes"])))
    number = np.array([sids["sizes"][str(size)] for size in sizes])
    right.bar(sizes, sizes * number, width=0.85, color="tab:blue")
    right.axvline(sids["mean_items"], color="tab:orange", label=f"mean of SIDs: {sids['mean_items']:.1f}")
    right.axvline(sids["seen_items"], color="tab:red", label=f"seen by an item: {sids['seen_items']:.1f}")
    right.set(xlabel="items in a SID", ylabel="items", xlim=(0, max(10, sizes.max() + 1)))
    right.set_title("Items by the size of their SID")
    right.yaxis.set_major_formatter("{x:,.0f}")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
