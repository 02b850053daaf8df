"""From runs to figures to the report, on the shop."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genrecall.config.evaluation import EvaluationSection
from genrecall.evaluation.metrics import MEASURES
from genrecall.evaluation.protocol import FoldRuns
from genrecall.evaluation.results import (
    ADAPTED,
    BM25,
    BOOSTED,
    FUSIONS,
    GENERATIVE,
    GENERATIVE_TEXT,
    KNN,
    LINEAR,
    PLACEBO,
    ROCCHIO,
    analyse,
    claims,
    join,
    tune_fold,
)
from genrecall.evaluation.runs import Channel, ranking
from genrecall.reports import evaluation_report, summary, verdict
from genrecall.reports.evaluation import heading
from genrecall.reports.markdown import clear_points, points, system
from tests.evaluation.figures import CHANNELS, SECTION, evaluation, folds, noisy
from tests.evaluation.shop import shop


def test_all_folds_are_judged_together() -> None:
    figures = analyse("unseen", folds("unseen"), shop(), SECTION, 1.0, 1)
    assert figures["queries"] == 16
    assert figures["folds"] == 4
    mean = np.mean([fold_mean(fold) for fold in folds("unseen")])  # folds of equal size
    assert figures["systems"][KNN]["R@10"]["mean"] == pytest.approx(mean, abs=1e-4)


def fold_mean(fold: FoldRuns) -> float:
    relevant: dict[str, set[str]] = {}
    for row in fold.split.test.to_pylist():
        if row["grade"] == 1.0:
            relevant.setdefault(row["query_id"], set()).add(row["item_id"])
    return float(np.mean([len(set(fold.runs[KNN][q].item_ids[:10]) & of) / len(of) for q, of in relevant.items()]))


def test_weights_never_see_test_queries() -> None:
    fold = folds("unseen")[0]
    fusions = [fusion for fusion in FUSIONS if set(fusion) <= set(CHANNELS)]
    before = tune_fold(fold, fusions, SECTION, 1.0)
    dev = set(fold.split.dev["query_id"].to_pylist())
    blank = {
        name: {q: r if q in dev else ranking(r.item_ids[::-1], r.scores) for q, r in run.items()}
        for name, run in fold.runs.items()
    }
    flipped = fold.split.test.set_column(
        2, fold.split.test.schema.field("grade"), pa.array([0.0] * len(fold.split.test), pa.float32())
    )
    assert tune_fold(FoldRuns(replace(fold.split, test=flipped), blank), fusions, SECTION, 1.0) == before


def test_weights_do_see_dev_queries() -> None:
    fold = folds("unseen")[0]
    harmful = {
        q: ranking(np.array([f"x{n}" for n in range(20)], dtype=object), r.scores) for q, r in fold.runs[KNN].items()
    }
    good = noisy(9, 0.01)(shop().queries, SECTION.depth)
    weights = tune_fold(FoldRuns(fold.split, {BM25: good, KNN: harmful}), [(BM25, KNN)], tuned_on("R@2"), 1.0)
    assert weights[join((BM25, KNN))] != {BM25: 1.0, KNN: 1.0}


def tuned_on(name: str) -> EvaluationSection:
    return SECTION.model_copy(update={"tune_on": [name], "weights": [0.0, 1.0]})


def test_every_claimed_difference_has_an_interval_around_its_mean() -> None:
    figures = analyse("recurring", folds("recurring"), shop(), SECTION, 1.0, 1)
    assert len(figures["differences"]) == len(claims(list(CHANNELS))) * len(MEASURES)
    for row in [*figures["differences"], *figures["union"]["differences"]]:
        assert row["low"] <= row["mean"] <= row["high"]


def test_systems_that_lack_a_channel_are_left_out() -> None:
    channels = {BM25: CHANNELS[BM25], KNN: CHANNELS[KNN]}
    figures = analyse("unseen", folds("unseen", channels), shop(), SECTION, 1.0, 1)
    assert set(figures["systems"]) == {BM25, KNN, "bm25+knn:equal", "bm25+knn:tuned"}
    assert figures["examples"] == {"helps": [], "hurts": []}
    assert figures["unique"] == []


def test_unions_are_compared_at_the_same_budget() -> None:
    figures = analyse("unseen", folds("unseen"), shop(), SECTION, 1.0, 1)["union"]
    assert figures["budget"] == 12
    assert all(of["distinct"] <= 12 for of in figures["systems"].values())
    pairs = {(d["system"], d["against"]) for d in figures["differences"]}
    assert ("generative", "bm25+adapted") in pairs  # the whole budget against half of it each
    assert all(len(one.split("+")) == 1 or one.startswith(f"{other}+") for one, other in pairs)


def test_a_query_tested_in_two_folds_is_an_error() -> None:
    one = folds("unseen")[0]
    with pytest.raises(ValueError, match="tested in two folds"):
        analyse("unseen", [one, one], shop(), SECTION, 1.0, 1)


def test_examples_name_what_was_gained_and_lost() -> None:
    section = SECTION.model_copy(update={"examples": 16})
    deep = {name: cut_to(channel, 3) for name, channel in CHANNELS.items()}
    examples = analyse("unseen", folds("unseen", deep), shop(), section, 1.0, 1)["examples"]
    assert examples["helps"]
    for example in examples["helps"]:
        without, with_it = example["R@50"].values()
        assert with_it > without
        assert len(example["gained"]) > len(example["lost"])
        colour, kind = example["query"].split()
        assert all(title.startswith(f"{colour} {kind}") for title in example["gained"])


def cut_to(channel: Channel, depth: int) -> Channel:
    return lambda queries, _: channel(queries, depth)


def test_the_report_labels_every_simulated_table_and_heading() -> None:
    text = evaluation_report(evaluation(simulated=True)).markdown
    headings = [line for line in text.splitlines() if line.startswith("#")]
    captions = [line for line in text.splitlines() if line.startswith("**") and "|" not in line]
    assert len(headings) == 3
    assert len(captions) > 10
    assert all("simulated" in line for line in [*headings, *captions])
    assert "simulated" in heading("unseen", {"simulated": True})


def test_the_report_of_real_judgments_says_nothing_of_simulation() -> None:
    assert "simulated" not in evaluation_report(evaluation(simulated=False)).markdown


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    made = evaluation(simulated=False)
    files = evaluation_report(made).write(tmp_path)
    assert {path.name for path in files} == {
        "evaluation.json",
        "evaluation.md",
        "evaluation-unseen.png",
        "evaluation-recurring.png",
    }
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in files}
    assert json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8")) == made
    assert (tmp_path / "evaluation-unseen.png").read_bytes().startswith(b"\x89PNG")


def test_tables_are_rectangular_and_show_the_quantizer_chosen() -> None:
    text = evaluation_report(evaluation(simulated=False)).markdown
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
    assert "| hierarchical | .600 | - | - | - | 4 of 4 |" in text


def test_systems_are_named_in_words() -> None:
    assert system("bm25+adapted+generative:tuned") == "BM25 + tuned k-NN + generative, tuned weights"


def test_the_summary_shows_systems_and_what_the_generative_channel_changes() -> None:
    lines = summary(evaluation(simulated=True)).splitlines()
    assert sum("simulated" in line for line in lines) == 2  # a heading a regime
    assert any(line.startswith("  BM25 + tuned k-NN + generative, equal weights ") for line in lines)
    changes = [line for line in lines if " over " in line]
    assert len(changes) == 2 * (3 * 2 * 2 + 3)  # regimes x (pairs of channels x weightings x measures, unions)
    assert all("[" in line for line in changes)


def test_the_verdict_is_a_sentence_a_regime_with_an_interval_for_each_figure() -> None:
    made = evaluation(simulated=True)
    lines = verdict(made)
    assert ["never seen" in line for line in lines] == [True, False]
    for line, regime in zip(lines, made["regimes"].values(), strict=True):
        assert line.endswith("(simulated)")
        rows = {(d["system"], d["against"]): d for d in regime["differences"] if d["measure"] == "R@50"}
        third, alone = rows["bm25+adapted+generative:equal", "bm25+adapted:equal"], rows["generative", "linear"]
        assert f"{points(third)} as a third list beside BM25 + tuned k-NN; " in line
        assert f"{points(alone)} alone against the linear control" in line
        placebo = rows["bm25+adapted+generative:equal", "bm25+adapted+placebo:equal"]
        assert f"{points(placebo)} as a third list against a placebo" in line
        assert "beside BM25 + Rocchio k-NN" in line
    assert not any("simulated" in line for line in verdict(evaluation(simulated=False)))


@pytest.mark.parametrize(
    ("third", "alone", "words"),
    [
        ((0.5, 2.5), (-0.5, 2.5), " generative recall wins, "),
        ((-0.5, 2.5), (-1.0, 1.0), "it is not certain whether generative recall wins, "),
        ((-0.5, 2.5), (-2.0, -0.5), " generative recall loses, "),
        ((0.5, 2.5), (-2.0, -0.5), "it depends on how it is used "),
    ],
)
def test_the_verdict_follows_the_intervals(third: tuple[float, float], alone: tuple[float, float], words: str) -> None:
    made = evaluation(simulated=False)
    of = {"bm25+adapted+generative:equal": third, "generative": alone}
    for regime in made["regimes"].values():
        for row in regime["differences"]:
            if row["against"] == "bm25+adapted:equal" and row["system"] in of:
                row |= {name: bound / 100 for name, bound in zip(("low", "high"), of[row["system"]], strict=True)}
    assert all(words in line for line in verdict(made))


def test_the_first_page_is_the_verdict_and_the_main_tables() -> None:
    made = evaluation(simulated=False)
    first, *_ = evaluation_report(made).markdown.partition("Intervals: 95%")
    for line in verdict(made):
        assert f"- {line}" in first
    for regime in made["regimes"].values():
        (row,) = (
            d
            for d in regime["differences"]
            if (d["system"], d["against"]) == ("generative", "bm25+adapted:equal") and d["measure"] == "R@50"
        )
        assert str(clear_points(row)) in first
    assert first.count("**BM25 + tuned k-NN, equal weights: the baseline**") == 2
    assert first.count("\n| BM25 + tuned k-NN + placebo k-NN, equal weights |") == 2


def test_controls_beside_a_node_are_marked_as_computed_offline() -> None:
    made = evaluation(simulated=False)
    assert "(offline)" not in evaluation_report(made).markdown
    text = evaluation_report(made | {"mode": "node"}).markdown
    cells = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    for name in (LINEAR, PLACEBO, ROCCHIO):
        assert cells.count(f"{system(name)} (offline)") == cells.count(system(name)) > 5
    assert "generative (offline)" not in text
    assert "linear control (offline)" in summary(made | {"mode": "node"})


def test_every_system_is_compared_with_the_baseline_and_the_controls() -> None:
    pairs = set(claims(list(CHANNELS)))
    base, third = join((BM25, ADAPTED), "equal"), join((BM25, ADAPTED, GENERATIVE), "equal")
    assert {(GENERATIVE, base), (GENERATIVE, LINEAR), (GENERATIVE_TEXT, base), (LINEAR, base)} <= pairs
    assert {(third, base), (third, join((BM25, ADAPTED, PLACEBO), "equal"))} <= pairs
    for weighting in ("equal", "tuned"):
        rocchio = join((BM25, ROCCHIO), weighting)
        assert (join((BM25, ROCCHIO, GENERATIVE), weighting), rocchio) in pairs
        assert (rocchio, join((BM25, ADAPTED), weighting)) in pairs
        boosted = join((BOOSTED, ROCCHIO), weighting)
        with_boosting = set(claims([*CHANNELS, BOOSTED]))
        assert {(join((BOOSTED, ROCCHIO, GENERATIVE), weighting), boosted), (GENERATIVE, BOOSTED)} <= with_boosting
        assert (boosted, join((BM25, ADAPTED), weighting)) in with_boosting
    returning = {
        "returning": analyse(
            "returning", folds("recurring", {**CHANNELS, BOOSTED: noisy(9, 0.3)}), shop(), SECTION, 1.0, 1
        )
    }
    made = evaluation(simulated=True) | {"regimes": returning}
    for text in (evaluation_report(made).markdown, summary(made), "\n".join(verdict(made))):
        assert "boosted BM25 + Rocchio k-NN" in text
    assert not any(ROCCHIO in name for pair in claims([BM25, KNN, ADAPTED, GENERATIVE]) for name in pair)
