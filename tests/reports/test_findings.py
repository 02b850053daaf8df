"""What the report warns of, and what it leaves alone: on records made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genrecall.config import Config
from genrecall.reports import Candidate, Run, Stage, diagnose
from genrecall.reports.markdown import change, clear_points, duration, share
from genrecall.reports.settings import about, differences
from genrecall.reports.stages import stages_of

DATA: dict[str, Any] = {
    "name": "kitchen",
    "simulated": False,
    "parts": {"train": {"queries": 8}, "dev": {"queries": 2}, "test": {"queries": 2}},
    "logs": {"simulated": False, "leaks": 0},
}


def stage(name: str = "mixed", recalls: tuple[float, ...] = (0.3, 0.5, 0.4), **series: list[float]) -> Stage:
    """Three evaluations, 10 steps apart, of a stage that went to its end."""
    values = {"loss": [3.0, 2.0, 1.0], **series}
    history = tuple({"step": 10 * n + 10, **{k: v[n] for k, v in values.items()}} for n in range(len(values["loss"])))
    setting = {"mixed": "generator.encoder.stage", "alignment": "generator.alignment"}[name]
    return Stage(
        *(name, "", setting, {"steps": 30, "group": 8, "lr": 1e-3, "batch": 8}, "done", "2 held-out queries", 30),
        best_step=10 * (recalls.index(max(recalls)) + 1) if recalls else 30,
        evaluations=tuple((10 * n, recall) for n, recall in enumerate(recalls, 1)),
        history=history,
    )


def run(*stages: Stage, data: dict[str, Any] = DATA, dead: int = 0) -> Run:
    levels = [{"size": 40, "dead": dead}, {"size": 40, "dead": 0}, {"size": 40, "dead": 39}]
    candidate = Candidate("cq_sid", {"levels": levels}, None, None, stages)
    return Run("r", Path("r"), (), "", {}, data, (candidate,), None, None)


def test_a_good_run_has_no_warning() -> None:
    better = stage("alignment", (0.51, 0.55, 0.54), reward=[0.2, 0.3, 0.4], zero_variance=[0.1] * 3, kl=[0.0, 0.1, 0.1])
    assert diagnose(run(stage(), better)) == []


@pytest.mark.parametrize(
    ("stages", "finding"),
    [
        ([stage(recalls=(0.3, 0.4, 0.5))], "still improving; raise `generator.encoder.stage.steps`"),
        ([stage(recalls=(0.5, 0.4, 0.3))], "is its first (step 10) and it falls"),
        ([stage(loss=[1.0, 1.5, 2.0])], "loss of stage mixed does not fall (1.000 -> 2.000)"),
        ([stage("alignment", zero_variance=[0.1, 0.5, 0.9])], "90% of the groups have one reward"),
        ([stage("alignment", kl=[0.1, 0.4, 0.7])], "KL reached 0.70 nats"),
        ([stage("alignment", clipped=[0.0, 0.2, 0.4])], "40% of the ratios are clipped"),
        ([stage("alignment", distinct=[8.0, 5.0, 1.5])], "1.5 of the 8 SIDs of a group are distinct"),
        ([stage("alignment", entropy=[4.0, 2.0, 0.1])], "fell from 4.00 to 0.10 nats"),
        ([stage("alignment", loss=[0.0] * 6, reward=[0.5, 0.5, 0.4, 0.4, 0.3, 0.3])], "does not rise (0.500 -> 0.300)"),
        ([stage(), stage("alignment", (0.2, 0.4, 0.3))], "lower after stage alignment than after stage mixed"),
    ],
)
def test_what_seems_wrong_is_named_once(stages: list[Stage], finding: str) -> None:
    found = diagnose(run(*stages))
    assert len(found) == 1
    assert finding in found[0]


def test_stages_follow_kind_logs_and_steps(tmp_path: Path) -> None:
    config = Config().model_dump(mode="json")
    parts = {name: {"queries": 3} for name in ("train", "dev", "test")}
    without = {"parts": parts, "logs": {}}
    logged = {"parts": parts, "logs": {"split": {"dev": 70}}}
    assert [s.name for s in stages_of(config, without, None, tmp_path)] == ["mixed"]
    assert [s.name for s in stages_of(config, logged, None, tmp_path)] == ["mixed", "user"]
    config["generator"] |= {"kind": "lm"}
    config["generator"]["alignment"]["steps"] = 9
    found = stages_of(config, logged, None, tmp_path)
    assert [(s.name, s.setting) for s in found] == [
        ("item", "generator.lm.item_stage"),
        ("query", "generator.lm.query_stage"),
        ("user", "generator.user.stage"),
        ("alignment", "generator.alignment"),
    ]
    assert {s.state for s in found} == {"to come"}


def test_a_stage_names_what_its_dev_recall_is_of(tmp_path: Path) -> None:
    """Titles of `item` have no query; `user` is evaluated on requests, all others on queries, where there are some."""
    config = Config().model_dump(mode="json")
    config["generator"] |= {"kind": "lm"}
    config["generator"]["alignment"]["steps"] = 9
    logged = {"parts": {"dev": {"queries": 3}}, "logs": {"split": {"dev": 70}}}
    metrics = {"steps": 9, "evaluations": [], "history": []}
    done = {"stages": dict.fromkeys(("item", "query", "user", "alignment"), metrics), "dev_requests": 70}
    dev_set = {s.name: s.dev_set for s in stages_of(config, logged, {**done, "dev_queries": 3}, tmp_path)}
    assert dev_set["item"] == ""
    assert dev_set["query"] == dev_set["alignment"] == "3 held-out queries"
    assert dev_set["user"] == "70 held-out logged requests, users known"
    dev_set = {s.name: s.dev_set for s in stages_of(config, logged, {**done, "dev_queries": 0}, tmp_path)}
    assert dev_set["query"] == ""
    assert dev_set["alignment"] == dev_set["user"]


def test_dead_codes_and_leaks() -> None:
    assert "5 of 40 codes of level 1 are dead" in diagnose(run(dead=5))[0]
    leaking = {**DATA, "logs": {**DATA["logs"], "leaks": 3}}
    assert "3 held-out requests are among those trained on" in diagnose(run(data=leaking))[0]


def test_a_stage_that_is_under_way_is_not_called_improving() -> None:
    early = stage(recalls=(0.3, 0.4, 0.5))
    assert diagnose(run(Stage(**{**vars(early), "state": "running", "steps": 20}))) == []


def test_defaults_differ_in_nothing() -> None:
    assert differences(Config().model_dump(mode="json")) == []


def test_differences_name_value_default_and_meaning() -> None:
    config = Config().model_dump(mode="json")
    config["generator"]["alignment"]["experts"] = 0
    config["quantizer"]["candidates"] = ["cq_sid"]
    config["run"]["colour"] = "red"
    found = {d.key: d for d in differences(config)}
    assert set(found) == {"generator.alignment.experts", "quantizer.candidates", "run.colour"}
    assert found["generator.alignment.experts"].value == "0"
    assert found["generator.alignment.experts"].default == "2"
    assert "ground truth" in found["generator.alignment.experts"].about
    assert found["quantizer.candidates"].value == '["cq_sid"]'
    assert "unknown" in found["run.colour"].default
    assert about("run.colour") == ""


def test_numbers_read_as_in_the_results() -> None:
    assert [share(value) for value in (0.7456, 1.0, 0.9999, 0.0)] == [".746", "1.000", "1.000", ".000"]
    assert clear_points({"mean": 0.019, "low": 0.006, "high": 0.034}) == "**+1.9 [+0.6, +3.4]**"
    assert clear_points({"mean": 0.019, "low": -0.006, "high": 0.034}) == "+1.9 [-0.6, +3.4]"
    assert [change(values) for values in ([], [1.0], [1.0, 3.0, 2.0])] == [None, "1.000", "1.000 -> 2.000"]
    assert [duration(seconds) for seconds in (None, 5.4, 200, 8000)] == [None, "5 s", "3 min", "2.2 h"]
