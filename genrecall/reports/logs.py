"""The report of behaviour logs, written before anything learns from them: logs.json, logs.md, logs.png."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genrecall.reports import plots
from genrecall.reports.markdown import counts
from genrecall.reports.render import Plot, Report, render

ACTIONS = {"exposure": ("exposures", "exposed"), "click": ("clicks", "clicked"), "purchase": ("purchases", "purchased")}
"""Action of an event -> how its events and its set are called in the facts."""


def logs_report(facts: Mapping[str, Any]) -> Report:
    """facts: what `trainer.logs.prepare` counted, JSON-ready."""
    title = f"{facts['requests']['kept']:,} requests, {'simulated' if facts['simulated'] else 'observed'}"
    plot = Plot("logs.png", title, lambda: plots.logs(facts, title))
    return Report("logs", render("logs", title=title, rows=rows(facts)), (plot,), facts)


def rows(facts: Mapping[str, Any]) -> dict[str, str]:
    """The figures as people read them, by name."""
    requests, split, catalogue = facts["requests"], facts["split"], max(1, facts["catalogue"])
    kept = max(1, requests["kept"])
    out = {
        "requests": f"{requests['kept']:,} of {requests['logged']:,} logged; dropped: {counts(requests['dropped'])}",
        "time": f"{facts['since']} to {facts['until']}",
        "clients": f"{requests['clients']:,} with an id, in {requests['sessions']:,} sessions",
        "taken for bots": counts(facts["bots"]),
        "distinct texts": f"{facts['texts']:,}",
    }
    for action, (name, column) in ACTIONS.items():
        dropped = {reason: n for reason, n in facts["events"][action].items() if reason != "logged"}
        dropped["of a dropped request"] = facts["events_of_dropped_requests"].get(action, 0)
        share = facts["requests_with"][column] / kept
        out[name] = f"{facts[name]:,}, in {share:.1%} of requests; left out: {counts(dropped)}"
    coverage = ", ".join(f"{column} {n:,} ({n / catalogue:.1%})" for column, n in facts["items"].items())
    history = f"{facts['requests_with_history'] / kept:.1%}, of {_median(facts['history'])} items in the median"
    out |= {
        "click-through rate": f"{facts['click_through_rate']:.2%}",
        "clicks on items not shown": f"{facts['clicks_not_shown']:,}",
        "catalogue": f"{facts['catalogue']:,} items: {coverage}",
        "with a history": history,
    }
    for name, values in facts["profiles"].items():
        known = counts({value: n for value, n in values.items() if value})
        out[name.replace("_", " ")] = f"known in {1 - values.get('', 0) / kept:.1%} of requests; {known}"
    return out | {
        "actions": counts(facts["actions"]),
        "events of other actions": counts(facts["other_actions"]),
        "events attributed by client and time": f"{facts['events_attributed']:,}",
        "further pages of an answer": f"{facts['pages']:,}",
        "left out": "; ".join(f"{of}: {counts(reasons)}" for of, reasons in facts["left_out"].items()) or "none",
        "warnings": "; ".join(facts["notes"]) or "none",
        "rejects": "; ".join(f"{of}: {counts(reasons)}" for of, reasons in facts["rejects"].items()) or "none",
        f"split by {split['by']}": counts({name: n for name, n in split.items() if name != "by"}),
        "leaks found": str(facts["leaks"] or "none"),
    }


def _median(lengths: Sequence[int]) -> int:
    """Of the histories that are not empty. lengths: how many requests have a history of each length, from 0."""
    seen, half = 0, sum(lengths[1:]) / 2
    for length, number in enumerate(lengths[1:], 1):
        seen += number
        if seen >= half and number:
            return length
    return 0
