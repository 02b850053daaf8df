"""The report of a run, from its record to a page: the order of the sections, and the ones on data and codes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from genrecall.reports import curves
from genrecall.reports.blocks import Alert, Block, Glance, Page, Picture, Section, code, figures, plain, table
from genrecall.reports.collect import Run
from genrecall.reports.ending import configuration, model, reproduce
from genrecall.reports.heldout import held_out
from genrecall.reports.learning import alignment, generator
from genrecall.reports.words import share
from trainer.logs import report as logs_report

Draw = Callable[[dict[str, Any], Path], None]


def page_of(run: Run, findings: Sequence[str]) -> Page:
    """The whole page. Headings that rest on simulated data say so."""
    note = " (simulated)" if run.simulated else ""
    told: list[tuple[str, Iterable[Block]]] = [
        (f"Data{note}", data(run, note)),
        (f"Codes{note}", codes(run, note)),
        (f"Generator{note}", generator(run, note)),
        (f"Alignment{note}", alignment(run, note)),
        (f"Held-out figures{note}", held_out(run, note)),
        ("Model", model(run)),
        ("Configuration", configuration(run)),
        ("Reproduce", reproduce(run)),
    ]
    sections = [Section(title, blocks) for title, found in told if (blocks := list(found))]
    return Page(f"Run {run.name}: {run.data['name']}{note}", list(head(run, findings)), sections)


def head(run: Run, findings: Sequence[str]) -> Iterable[Block]:
    """What a reader must know before any figure."""
    if run.simulated:
        yield Alert(
            "note", "**The data is simulated**: what rests on it says how training went, nothing about real users."
        )
    if run.missing:
        missing = "\n".join(f"- {plain(what)}" for what in run.missing)
        yield Alert("note", f"**The run is under way, or was interrupted.** Not there yet:\n\n{missing}")
    if findings:
        yield Alert("warning", "**Worth a look**\n\n" + "\n".join(f"- {said}" for said in findings))
    elif not run.missing:
        yield Alert("tip", "Nothing stood out: losses fall, no stage ended while it was improving, the codes are used.")
    yield Glance(_glance(run))
    told = f"Training {code(run.folder.name)}, last written {run.written}."
    if run.others:
        told += " Others of this run, shown with `--split`: " + ", ".join(map(code, run.others)) + "."
    yield told


def _glance(run: Run) -> dict[str, str]:
    """The figures that matter, as plain text."""
    found = {"items": f"{run.data['items']:,}"}
    if run.logs:
        found["requests"] = f"{run.logs['requests']['kept']:,}"
    for candidate in run.candidates:
        if candidate.kind == run.chosen and candidate.codes and candidate.generator:
            found |= {"codes": candidate.kind, "SIDs": f"{candidate.codes['sids']['count']:,}"}
            found["parameters"] = f"{candidate.generator['parameters'] / 1e6:.1f} M"
            dev = candidate.dev or {}
            found |= {f"dev {name}": share(dev[name]) for name in dict.fromkeys(("R@50", run.select_by)) if name in dev}
    if run.published:
        found["bundle"] = run.published.codebook
    return found


def data(run: Run, note: str) -> Iterable[Block]:
    """What was trained on, what was held out, and the logs."""
    facts, parted = run.data, run.logs.get("split", {})
    yield (
        f"{plain(facts['name'])}{note}: {facts['items']:,} items, {facts['queries']:,} queries, "
        f"{facts['judgments']:,} judgments. Split {code(facts['split'])}: training reads train and dev, never test."
    )
    header = ["", "queries", "judgments", *(["logged requests"] if parted else [])]
    yield figures(
        header,
        [
            [name, f"{of['queries']:,}", f"{of['judgments']:,}", *([f"{parted.get(name, 0):,}"] if parted else [])]
            for name, of in facts["parts"].items()
        ],
    )
    if not run.logs:
        yield "No logs were used: stages 3 and 4 need some."
        return
    yield f"### Logs{' (simulated)' if run.logs['simulated'] else ''}"
    yield table(["", ""], [[name, plain(value)] for name, value in logs_report.rows(run.logs).items()])
    yield Picture("logs", f"Clicks by rank and lengths of histories{note}", partial(drawn, logs_report.draw, run.logs))


def codes(run: Run, note: str) -> Iterable[Block]:
    """How well the codes of each candidate are used; which were published."""
    there = {candidate.kind: candidate.codes for candidate in run.candidates if candidate.codes}
    if not there:
        yield "No codes yet."
        return
    rows = []
    for kind, of in there.items():
        used, dead = (" / ".join(f"{level[name]:,}" for level in of["levels"]) for name in ("used", "dead"))
        perplexity = " / ".join(f"{level['perplexity']:.0f}" for level in of["levels"])
        sids = of["sids"]
        rows.append(
            [
                f"**{code(kind)}**, published" if kind == run.chosen else code(kind),
                f"{sids['count']:,}",
                f"{sids['mean_items']:.1f}",
                f"{sids['seen_items']:.1f}",
                f"{sids['max_items']:,}",
                f"{sids['singleton_share']:.0%}",
                f"{sids['split_share']:.1%}",
                used,
                dead,
                perplexity,
            ]
        )
    header = ["codes", "SIDs", "items in a SID", "as an item sees it", "most", "of one item", "items split off"]
    yield figures([*header, "codes used", "dead", "perplexity"], rows)
    yield (
        "Used, dead and perplexity are by level. Good codes are used evenly (perplexity near the number of codes, "
        "curves near the diagonal) and hold few items each: a SID is recalled whole. Numbers of levels 2 and 3 that "
        "are counted inside each prefix use low numbers more by construction."
    )
    for kind, of in there.items():
        yield f"### {code(kind)}{note}"
        yield Picture(
            f"codes-{kind}",
            f"Use of the codes of {kind}{note}",
            partial(drawn, draw_codes, {**of, "kind": kind + note}),
        )
        if history := of.get("fit", {}).get("history"):
            warmup = run.config["quantizer"].get(kind, {}).get("warmup_epochs", 0)
            title = f"Training of {kind}{note}; the codebooks are laid at the dotted line"
            yield Picture(f"codes-{kind}-training", title, partial(curves.codes_history, history, warmup, title))


def draw_codes(report: dict[str, Any], path: Path) -> None:
    """As the quantizer does; loads torch with it."""
    from trainer.quantizer.report import draw

    draw(report, path)


def drawn(draw: Draw, report: dict[str, Any]) -> bytes:
    """The PNG that a report of another part draws."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plot.png"
        draw(report, path)
        return path.read_bytes()
