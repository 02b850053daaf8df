"""`genrecall report`: what a run learned, as far as it got, safely, in one file."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from genrecall.cli.main import main
from genrecall.config import Config, load
from genrecall.errors import UserError
from genrecall.reports import Run, collect, diagnose, run_report, write_run
from genrecall.reports.evaluation import added
from genrecall.reports.markdown import code, interval, listing, plain, points, table
from genrecall.reports.page import html_page
from genrecall.reports.render import Report
from tests.evaluation.figures import evaluation
from tests.reports.tiny import TINY, Reported

pytestmark = pytest.mark.slow


class Tags(HTMLParser):
    """What a browser would make of a page: its tags, what they refer to, and the text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: set[str] = set()
        self.refers: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                self.refers.append(value or "")
            if name.startswith("on"):
                self.handlers.add(name)

    def handle_data(self, data: str) -> None:
        self.text += data


def html_of(run: Run) -> str:
    return as_html(run_report(run, diagnose(run)))


def as_html(report: Report) -> str:
    return html_page(report.markdown, {plot.path: b"png" for plot in report.plots})


def sections(report: Report) -> list[str]:
    return re.findall(r"^## (.*)$", report.markdown, flags=re.MULTILINE)


def as_made_by_evaluate(run: Run, model: str) -> dict[str, Any]:
    """The figures of a small shop, as if they were of this run's dataset and of `model`."""
    found = evaluation(simulated=True)
    found["regimes"]["unseen"]["notes"]["fold0"]["model"] = model
    return {**found, "dataset": run.data["name"]}


def test_finished_run_reports_every_stage_of_every_candidate(reported: Reported) -> None:
    run = reported.finished
    assert run.missing == []
    assert [candidate.kind for candidate in run.candidates] == ["cq_sid", "hierarchical"]
    for candidate in run.candidates:
        assert [stage.name for stage in candidate.stages] == ["mixed", "user", "alignment"]
        for stage in candidate.stages:
            assert stage.state == "done"
            assert stage.recall == max(recall for _, recall in stage.evaluations)
            assert stage.series("loss")[0][-1] == stage.steps
        steps, shares = candidate.stages[-1].series("share_valid")
        assert len(steps) == len(shares) >= 2
    text = Tags(html_of(run)).text
    for heading in (
        "Stage mixed",
        "Stage user",
        "Alignment (simulated)",
        "How to read the curves",
        "Dev queries of given",
    ):
        assert heading in text
    assert f"{run.chosen}, published" in text
    assert {Path(plot.path).stem for plot in run_report(run, []).plots} == {
        *("logs", "codes-cq_sid", "codes-cq_sid-training", "codes-hierarchical"),
        *("stage-mixed", "stage-user", "stage-alignment", "alignment-cq_sid", "alignment-hierarchical"),
    }


def test_interrupted_run_is_reported_as_far_as_it_got(reported: Reported) -> None:
    run = reported.interrupted
    assert run.missing == [
        "the generator of cq_sid (stage alignment: step 6 of 12)",
        "the dev figures of cq_sid",
        "the codes of hierarchical",
        "the generator of hierarchical",
        "the dev figures of hierarchical",
        "the bundle",
    ]
    assert [stage.state for stage in run.candidates[0].stages] == ["done", "done", "running"]
    assert [stage.state for stage in run.candidates[1].stages] == ["to come"] * 3
    assert run.candidates[0].stages[2].series("reward")[0] == [1, 2, 3, 4, 5, 6]
    text = Tags(html_of(run)).text
    assert "under way, or was interrupted" in text
    for what in run.missing:
        assert what in text
    assert "No bundle was published yet" in text


def test_stages_that_were_interrupted_and_finished_agree(reported: Reported) -> None:
    before, after = reported.interrupted.candidates[0].stages[2], reported.finished.candidates[0].stages[2]
    assert after.evaluations[: len(before.evaluations)] == before.evaluations
    assert after.dev_set == before.dev_set


def test_what_rests_on_simulated_data_says_so(reported: Reported) -> None:
    report = run_report(reported.finished, [])
    assert report.markdown.splitlines()[0].endswith("(simulated)")
    for section in sections(report):
        assert ("(simulated)" in section) == (section not in ("Model", "Configuration", "Reproduce"))
    for plot in report.plots:
        assert "(simulated)" in plot.caption
        assert "(simulated)" in plot.draw().get_suptitle()


def test_observed_data_is_not_called_simulated(reported: Reported) -> None:
    run = reported.finished
    data = {**run.data, "simulated": False, "logs": {**run.logs, "simulated": False}}
    report = run_report(replace(run, data=data), [])
    assert not any("simulated" in section for section in sections(report))
    assert not any("simulated" in plot.caption for plot in report.plots)


def test_page_needs_nothing_from_elsewhere_and_runs_nothing(reported: Reported) -> None:
    for run in (reported.finished, reported.interrupted):
        found = Tags(html_of(run))
        assert found.refers
        assert all(to.startswith(("#", "data:image/png;base64,")) for to in found.refers)
        assert not found.tags & {"script", "link", "iframe", "object", "embed", "form", "base"}


HOSTILE = '<script>alert(1)</script>"><img src=x onerror=y> [a](javascript:z) ![b](http://elsewhere/c.png) `d` | e'


def test_hostile_text_is_shown_and_does_nothing(reported: Reported) -> None:
    run = reported.finished
    hostile = as_made_by_evaluate(run, HOSTILE) | {"dataset": HOSTILE, "mode": HOSTILE}
    config = {**run.config, "data": {**run.config["data"], "folder": HOSTILE + "\n```\n</details>" + HOSTILE}}
    data = {**run.data, "name": HOSTILE, "fingerprints": {HOSTILE: "1"}}
    text = html_of(replace(run, data=data, config=config, evaluation=hostile))
    found = Tags(text)
    assert found.tags == Tags(html_of(replace(run, evaluation=hostile | {"dataset": run.data["name"]}))).tags
    assert not found.handlers
    assert all(to.startswith(("#", "data:")) for to in found.refers)
    assert found.text.count(HOSTILE) >= 3


@pytest.mark.parametrize("text", [HOSTILE, "a|b", "``", "*x* _y_ # z", "a_b__c_ __d_e", "two\nlines", "&amp; <", "\\"])
def test_any_text_is_shown_as_it_is(text: str) -> None:
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    line = " ".join(text.split())
    for made in (plain(text), code(text), table(["h"], [[plain(text)]]), table(["h"], [[code(text)]])):
        found = Tags(markdown.render(made))
        assert not found.tags & {"script", "img", "a", "em", "h1"}
        assert found.text.replace("h", "", 1).strip() == line if "<table>" in markdown.render(made) else True
        assert line in found.text
    assert Tags(markdown.render(listing(text + "\n```\n"))).text.startswith(text)


def test_markup_that_reached_the_markdown_does_nothing_in_html() -> None:
    text = (
        "# t\n\n<script>alert(1)</script>\n\n<div onclick=x>a</div>\n\nb <b>c</b> ![d](http://e/f.png) [g](http://h)\n"
    )
    found = Tags(html_page(text, {}))
    assert not found.tags & {"script", "div", "b", "img"}
    assert not found.handlers
    assert all(to.startswith("#") for to in found.refers)
    assert "alert(1)" in found.text


def test_settings_that_differ_are_named_with_their_defaults(reported: Reported) -> None:
    text = Tags(html_of(reported.finished)).text
    assert re.search(r"generator\.alignment\.steps\s+12\s+0\s+at most; 0 leaves the stage out", text)
    assert re.search(r"quantizer\.cq_sid\.epochs\s+2\s+20\s+passes over the items", text)
    assert not re.search(r"generator\.alignment\.group\s+8\s+8", text)


def test_the_configuration_beside_the_results_trains_the_same(reported: Reported) -> None:
    assert load(Config, reported.finished.folder / "config.yaml") == reported.settings


def test_test_figures_come_with_intervals_or_with_the_command(reported: Reported) -> None:
    run = reported.finished
    assert f"genrecall evaluate -c {run.folder / 'config.yaml'} --offline" in Tags(html_of(run)).text
    assert run.published is not None
    made = as_made_by_evaluate(run, run.published.model)
    text = Tags(html_of(replace(run, evaluation=made))).text
    unseen = made["regimes"]["unseen"]
    assert interval(unseen["systems"]["generative"]["nDCG@10"]) in text
    assert {points(row) for row in added(unseen, ["nDCG@10"])} <= set(re.findall(r"\S+ \[[^]]*\]", text))
    assert "The published model is that of one of its folds." in text
    other = replace(run, evaluation=as_made_by_evaluate(run, "encoder-0000000000"))
    assert any("of other models" in finding for finding in diagnose(other))


def test_evaluation_of_an_earlier_version_is_named_and_not_shown(reported: Reported, tmp_path: Path) -> None:
    shutil.copytree(reported.settings.run.dir, tmp_path / "tiny")
    before = {"dataset": "shop", "simulated": True, "mode": "offline", "regimes": {"unseen": {"systems": {"bm25": {}}}}}
    (tmp_path / "tiny" / "evaluation.json").write_text(json.dumps(before), encoding="utf-8")
    run = collect(reported.settings.run.model_copy(update={"runs_dir": tmp_path}))
    assert run.evaluation is None
    assert any("of an earlier version" in finding for finding in diagnose(run))
    assert "Not evaluated yet" in Tags(html_of(run)).text


def test_run_of_a_catalogue_alone_is_reported(reported: Reported) -> None:
    run = reported.finished
    none = {"queries": 0, "judgments": 0}
    data = {**run.data, "logs": {}, "parts": dict.fromkeys(("train", "dev", "test"), none)}
    mixed = [
        replace(c, dev={}, stages=(replace(c.stages[0], evaluations=(), dev_set="", best_step=60),))
        for c in run.candidates
    ]
    alone = replace(run, data=data, candidates=(mixed[0],))
    report = run_report(alone, diagnose(alone))
    assert not any(section.startswith("Alignment") for section in sections(report))
    text = Tags(as_html(report)).text
    assert "No logs were used" in text
    assert "There are no dev queries" in text
    stage = next(plot for plot in report.plots if plot.path == "report/stage-mixed.png")
    assert len(stage.draw().axes) == 2


def test_unknown_run_or_split_names_what_there_is(reported: Reported) -> None:
    section = reported.settings.run
    with pytest.raises(UserError, match=r"'nightly' has no training.*the runs there: tiny; name one with --run"):
        collect(section.model_copy(update={"name": "nightly"}))
    with pytest.raises(UserError, match="no training of split 'fold7': it has given"):
        collect(section, "fold7")
    with pytest.raises(UserError, match="there is no other run either"):
        collect(section.model_copy(update={"runs_dir": section.runs_dir / "empty"}))


def test_training_of_train_goes_before_those_of_an_evaluation(reported: Reported, tmp_path: Path) -> None:
    shutil.copytree(reported.settings.run.dir, tmp_path / "tiny")
    section = reported.settings.run.model_copy(update={"runs_dir": tmp_path})
    ours = tmp_path / "tiny" / "train" / reported.finished.folder.name
    fold = ours.with_name("fold1-0123456789ab")
    shutil.copytree(ours, fold)
    of_folds = str(section.dir / "evaluation" / "bundles")
    text = (fold / "config.yaml").read_text().replace(str(section.bundles_dir), of_folds)
    (fold / "config.yaml").write_text(text)
    os.utime(fold / "config.yaml", (4e9, 4e9))
    assert collect(section).folder == ours
    assert collect(section).others == (fold.name,)
    assert collect(section, "fold1").folder == fold
    assert collect(section, "fold1").published is None


def test_command_writes_both_pages_with_their_plots(
    reported: Reported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = reported.settings.run.dir
    (folder / "report").mkdir(exist_ok=True)
    (folder / "report" / "stage-of-yesterday.png").write_bytes(b"old")

    def run(*words: str) -> tuple[str, int]:
        monkeypatch.setattr(sys, "argv", ["genrecall", "report", "-c", str(TINY), *reported.overrides, *words])
        with pytest.raises(SystemExit) as exit_:
            main()
        return capsys.readouterr().out, int(exit_.value.code or 0)

    output, code_ = run()
    assert code_ == 0
    assert str(folder / "report.html") in output
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    plots = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", markdown)
    assert {folder / plot for plot in plots} == set((folder / "report").iterdir())
    assert all((folder / plot).read_bytes().startswith(b"\x89PNG") for plot in plots)
    assert f"`{reported.finished.folder.name}`" in markdown
    before = {path: path.read_bytes() for path in (folder / "report").iterdir()}
    output, code_ = run("--json")
    found = json.loads(output)
    assert code_ == 0
    assert found["candidates"]["cq_sid"]["stages"][2]["name"] == "alignment"
    assert found["chosen"] == reported.finished.chosen
    assert {Path(name) for name in found["files"]} >= set(before)
    assert {path: path.read_bytes() for path in (folder / "report").iterdir()} == before
    assert run("--run", "nightly")[1] == 2


def test_nothing_is_left_half_written(reported: Reported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(reported.interrupted, [], tmp_path)
    before = (tmp_path / "report.html").read_bytes()

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_run(reported.finished, [], tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
