"""The report of a run: what it learned, from its folder to report.md, report.html and report/*.png."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from genrecall.reports import findings as bounds
from genrecall.reports import logs, plots
from genrecall.reports.collect import Run
from genrecall.reports.evaluation import added, verdict
from genrecall.reports.markdown import (
    REGIMES,
    Markdown,
    bold,
    change,
    clear_points,
    code,
    count,
    plain,
    share,
    system,
    table,
)
from genrecall.reports.render import Plot, Report, render
from genrecall.reports.settings import about, differences, shown
from genrecall.reports.stages import Stage, before

Stages = dict[str, dict[str, Stage]]
"""Name of a stage -> kind of codes -> that stage of that candidate."""

LOGGED = {
    "reward": "reward of sampled SIDs",
    "group_reward": "reward of the group",
    **{f"share_{name}": f"sampled SIDs {name}" for name in plots.OUTCOMES},
    "zero_variance": "groups of one reward",
    "expert_wins": "groups where an expert is best",
    "experts": "experts in a group",
    "kl": "KL, nats a code",
    "entropy": "entropy, nats a SID",
    "clipped": "ratios clipped",
    "distinct": "distinct SIDs of a group",
}
ADDED = ("R@50", "nDCG@10", "union")  # measures in which the report shows what the generative channel adds
FEW = 100  # dev queries, under which the choice of a candidate by a few points is chance


def run_report(run: Run, findings: Sequence[str]) -> Report:
    """findings: of `diagnose`, in Markdown. Headings and captions that rest on simulated data say so."""
    note = " (simulated)" if run.simulated else ""
    names = list(dict.fromkeys(stage.name for candidate in run.candidates for stage in candidate.stages))
    stages = {name: {c.kind: s for c in run.candidates for s in c.stages if s.name == name} for name in names}
    drawn = {Path(plot.path).stem: plot for plot in _plots(run, stages, note)}
    text = render(
        "run",
        run=run,
        note=note,
        findings=[Markdown(finding) for finding in findings],
        overview=_overview(run),
        parts=_parts(run),
        log_rows=logs.rows,
        stages=stages,
        alignment_settings=_settings(stages) if "alignment" in stages else None,
        alignment_changes=_changes(stages.get("alignment", {})),
        bounds=bounds,
        dev=_dev(run),
        few_dev_queries=sum(bool(c.dev) for c in run.candidates) > 1 and run.data["parts"]["dev"]["queries"] < FEW,
        verdict=verdict,
        regimes=REGIMES,
        added=_added,
        differences=differences(run.config),
        config_yaml=yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True),
        commands="\n".join(_commands(run)),
        plots=drawn,
    )
    return Report("report", text, tuple(drawn.values()))


def write_run(run: Run, findings: Sequence[str], folder: Path) -> list[Path]:
    """Write report.md, report.html and report/*.png into `folder`, each whole or not at all; the files written.

    Plots of an earlier report that this one does not have are removed, last.
    """
    written = run_report(run, findings).write(folder, as_html=True)
    for old in set((folder / "report").glob("*.png")) - set(written):
        old.unlink()
    return written


def _plots(run: Run, stages: Stages, note: str) -> Iterator[Plot]:
    def plot(name: str, caption: str, draw: Any, *arguments: Any, title: str = "") -> Plot:
        return Plot(f"report/{name}.png", caption, partial(draw, *arguments, title or caption))

    if run.logs:
        title = f"{run.logs['requests']['kept']:,} requests{note}"
        yield plot("logs", f"Clicks by rank and lengths of histories{note}", plots.logs, run.logs, title=title)
    for candidate in run.candidates:
        if (facts := candidate.codes) is None:
            continue
        kind, sids = candidate.kind, facts["sids"]["count"]
        title = f"{kind}{note}: {facts['items']:,} items in {sids:,} SIDs"
        yield plot(f"codes-{kind}", f"Use of the codes of {kind}{note}", plots.codes, facts, title=title)
        if history := facts.get("fit", {}).get("history"):
            warmup = run.config["quantizer"].get(kind, {}).get("warmup_epochs", 0)
            caption = f"Training of {kind}{note}; the codebooks are initialized at the dotted line"
            yield plot(f"codes-{kind}-training", caption, plots.codes_training, history, warmup)
    for name, of in stages.items():
        if any(stage.history for stage in of.values()):
            ahead = {c.kind: before(c.stages, of[c.kind]) for c in run.candidates if c.kind in of}
            starts = {kind: s.recall for kind, s in ahead.items() if s is not None and s.recall is not None}
            yield plot(f"stage-{name}", f"Stage {name}{note}", plots.stage, of, starts)
    for kind, stage in stages.get("alignment", {}).items():
        if stage.series("reward")[0]:
            yield plot(f"alignment-{kind}", f"Alignment of {kind}{note}", plots.alignment, stage)
    for name, regime in (run.evaluation or {}).get("regimes", {}).items():
        yield plot(f"evaluation-{name}", f"{REGIMES.get(name, name)}{note}", plots.evaluation, regime)


def _overview(run: Run) -> Markdown:
    """The figures that matter, in one row."""
    found = {"items": count(run.data["items"])}
    if run.logs:
        found["requests"] = count(run.logs["requests"]["kept"])
    for candidate in run.candidates:
        if candidate.kind == run.chosen and candidate.codes and candidate.generator:
            found |= {"codes": candidate.kind, "SIDs": count(candidate.codes["sids"]["count"])}
            found["parameters"] = f"{candidate.generator['parameters'] / 1e6:.1f} M"
            dev = candidate.dev or {}
            found |= {f"dev {name}": share(dev[name]) for name in dict.fromkeys(("R@50", run.select_by)) if name in dev}
    if run.published:
        found["bundle"] = run.published.codebook
    return table(list(found), [list(found.values())], numbers=True)


def _parts(run: Run) -> Markdown:
    """Train, dev and test: queries, judgments, and logged requests where there are logs."""
    split = run.logs.get("split")
    rows = [
        [name, count(of["queries"]), count(of["judgments"]), *([count(split.get(name, 0))] if split else [])]
        for name, of in run.data["parts"].items()
    ]
    return table(["", "queries", "judgments", *(["logged requests"] if split else [])], rows, numbers=True)


def _settings(stages: Stages) -> Markdown:
    """The settings of alignment that no other stage has."""
    one = next(iter(stages["alignment"].values()))
    common = {key for name, of in stages.items() if name != "alignment" for s in of.values() for key in s.section}
    rows = [
        [code(name), _value(value), about(f"{one.setting}.{name}")]
        for name, value in one.section.items()
        if name not in common
    ]
    return table(["setting", "value", "what it is"], rows)


def _value(value: object) -> Markdown:
    if isinstance(value, dict):
        return plain(", ".join(f"{name} {earned:g}" for name, earned in value.items()))
    return code(shown(value))


def _changes(stages: Mapping[str, Stage]) -> Markdown | None:
    """What was logged first and last in alignment."""
    rows = [
        [words, *(change(stage.series(name)[1]) for stage in stages.values())]
        for name, words in LOGGED.items()
        if any(stage.series(name)[1] for stage in stages.values())
    ]
    return table(["first logged -> last", *map(code, stages)], rows, numbers=True) if rows else None


def _dev(run: Run) -> Markdown | None:
    """The dev figures of all candidates, the best of a column in bold."""
    dev_of = {candidate.kind: candidate.dev for candidate in run.candidates if candidate.dev}
    names = list(dict.fromkeys(name for dev in dev_of.values() for name in dev))
    best = {name: max(dev.get(name, 0.0) for dev in dev_of.values()) for name in names}

    def cell(dev: Mapping[str, float], name: str) -> str | None:
        text = share(dev.get(name))
        return bold(text) if len(dev_of) > 1 and dev.get(name) == best[name] else text

    rows = [
        [
            Markdown(code(kind) + (", published" if kind == run.chosen else "")),
            *(cell(dev, name) for name in names),
        ]
        for kind, dev in dev_of.items()
    ]
    header = [f"{name} (decides)" if name == run.select_by else name for name in names]
    return table(["codes", *header], rows, numbers=True) if rows else None


def _added(regime: Mapping[str, Any]) -> Markdown | None:
    """What the generative channel adds to each system without it, in points."""
    rows: dict[str, dict[str, Markdown]] = {}
    for row in added(regime, ADDED):
        against, _, weights = row["against"].partition(":")
        rows.setdefault(f"{against}:{weights or 'equal'}", {})[row["measure"]] = clear_points(row)
    header = ["to", *ADDED[:-1], f"union of {regime['union']['budget']}"]
    cells = [[system(against), *(of.get(measure) for measure in ADDED)] for against, of in rows.items()]
    return table(header, cells, numbers=True) if rows else None


def _commands(run: Run) -> Iterator[str]:
    """From this configuration and the same data. A new name, or the run that exists would be returned as it is."""
    config = shlex.quote(str(run.folder / "config.yaml"))
    again = "run.name=again run.bundles_dir=runs/again/bundles"
    yield "# the same again, into a run of its own"
    yield f"genrecall train -c {config} {again}"
    yield f"genrecall report -c {config} {again}"
    if run.published:
        root = shlex.quote(str(run.published.path.parent))
        yield "# show the bundle and verify its checksums"
        yield f"genrecall bundle show {run.published.codebook} --bundles {root}"
        yield f"genrecall bundle verify {run.published.codebook} --bundles {root}"
    else:
        yield "# resume"
        yield f"genrecall train -c {config}"
    yield "# test figures with intervals"
    yield f"genrecall evaluate -c {config} --offline"
