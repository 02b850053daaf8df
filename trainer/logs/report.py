"""The report of logs, written before anything learns from them: JSON for machines, a Markdown table, a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from genrecall.config.logs import LogsSection
from trainer.logs.join import ACTIONS
from trainer.logs.parts import RequestSplit


def describe(folder: Path, parts: RequestSplit, logs: LogsSection) -> dict[str, Any]:
    """JSON-ready: what `build_requests` counted into `folder`, and how its requests were parted.

    `leaks` is 0: had one been found, `build_requests` or `split_requests` had raised.
    """
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    sizes = {"train": len(parts.train), "dev": len(parts.dev), "test": len(parts.test), "dropped": parts.dropped}
    return {**report, "split": {"by": logs.split, **sizes}}


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write logs.json, logs.md, logs.png into `folder`."""
    (folder / "logs.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (folder / "logs.md").write_text(markdown(report), encoding="utf-8")
    draw(report, folder / "logs.png")


def markdown(report: dict[str, Any]) -> str:
    """A table of all figures."""
    title = f"# Logs: {report['requests']['kept']:,} requests, {_kind(report)}"
    cells = [f"| {name} | {value} |" for name, value in rows(report).items()]
    return "\n".join([title, "", "| | |", "|---|---|", *cells, ""])


def rows(report: dict[str, Any]) -> dict[str, str]:
    """The figures as people read them, by name."""
    requests, split, found = report["requests"], report["split"], report["items"]
    kept = max(1, requests["kept"])
    lost = {action: {**report["events"][action]} for action in ACTIONS}
    for action, reasons in lost.items():
        reasons.pop("logged", None)
        reasons["of a dropped request"] = report["events_of_dropped_requests"].get(action, 0)
    said = {
        "requests": f"{requests['kept']:,} of {requests['logged']:,} logged; dropped: {_counts(requests['dropped'])}",
        "time": f"{report['since']} to {report['until']}",
        "clients": f"{requests['clients']:,} with an id, in {requests['sessions']:,} sessions",
        "taken for bots": _counts(report["bots"]),
        "distinct texts": f"{report['texts']:,}",
    }
    for column, action, name in zip(ACTIONS.values(), ACTIONS, ("exposures", "clicks", "purchases"), strict=True):
        share = report["requests_with"][column] / kept
        said[name] = f"{report[name]:,}, in {share:.1%} of requests; left out: {_counts(lost[action])}"
    catalogue = max(1, report["catalogue"])
    coverage = ", ".join(f"{column} {n:,} ({n / catalogue:.1%})" for column, n in found.items())
    history = report["history"]
    return said | {
        "click-through rate": f"{report['click_through_rate']:.2%}",
        "clicks on items not shown": f"{report['clicks_not_shown']:,}",
        "catalogue": f"{report['catalogue']:,} items: {coverage}",
        "with a history": f"{report['requests_with_history'] / kept:.1%}, of {_median(history)} items in the median",
        **{
            name.replace("_", " "): f"known in {1 - values.get('', 0) / kept:.1%} of requests; {_counts(values, '')}"
            for name, values in report["profiles"].items()
        },
        "events of other actions": f"{report['other_actions']:,}",
        "rejects": "; ".join(f"{of}: {_counts(reasons)}" for of, reasons in report["rejects"].items()) or "none",
        f"split by {split['by']}": _counts({name: n for name, n in split.items() if name != "by"}),
        "leaks found": f"{report['leaks'] or 'none'}",
    }


def draw(report: dict[str, Any], path: Path) -> None:
    """Left: how often an item is clicked by its rank. Right: how long the history of a request is."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    figure.suptitle(f"{report['requests']['kept']:,} requests, {_kind(report)}")
    left, right = figure.subplots(1, 2)
    places = [row["position"] for row in report["positions"]]
    left.bar(places, [100 * row["clicked"] / row["shown"] for row in report["positions"]], color="tab:blue")
    left.set(xlabel="rank in the answer", ylabel="clicked, % of shown", title="Clicks by rank")
    right.bar(range(len(report["history"])), report["history"], color="tab:orange")
    right.set(xlabel="recent items", ylabel="requests", title="Histories")
    right.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _kind(report: dict[str, Any]) -> str:
    return "simulated" if report["simulated"] else "observed"


def _counts(counts: dict[str, int], unnamed: str | None = None) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items() if n and name != unnamed) or "none"


def _median(lengths: list[int]) -> int:
    """Of the histories that are not empty. lengths: how many requests have a history of each length, from 0."""
    seen, half = 0, sum(lengths[1:]) / 2
    for length, number in enumerate(lengths[1:], 1):
        seen += number
        if seen >= half and number:
            return length
    return 0
