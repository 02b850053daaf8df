"""Judgments out of logs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genrecall.config import Config
from genrecall.config.data import DataSection
from genrecall.data.readers import read_dataset
from genrecall.data.splits import recurring_split
from genrecall.errors import UserError
from genrecall.evaluation.folds import train_fold
from genrecall.evaluation.protocol import known_items, past_items, splits
from genrecall.records import Split
from tests.logs.log import at, event, query, requests, write
from trainer.behaviour import behaviour_of
from trainer.logs.judge import judge, judgments_of, recurring_of

ROWS = [
    {"text": "Pan", "exposed": ["a", "b", "c"], "clicked": ["a"]},
    {"text": "pan ", "exposed": ["a", "b", "c"], "clicked": ["a", "c"], "purchased": ["c"]},
    {"text": "pan", "exposed": ["a", "b", "c"], "clicked": ["a"]},
    {"text": "pot", "exposed": ["d"], "clicked": ["d"]},
    {"text": "lid", "exposed": ["d"]},
]


def grades(share: float = 1.0, least: int = 1, propensity: float = 0.0) -> dict[tuple[str, str], float]:
    queries, judgments = judgments_of(requests(ROWS), share, least, propensity)
    texts = dict(zip(queries["query_id"].to_pylist(), queries["text"].to_pylist(), strict=True))
    return {(texts[row["query_id"]], row["item_id"]): pytest.approx(row["grade"]) for row in judgments.to_pylist()}


def test_clicks_and_purchases_of_a_text_count_against_its_best_item() -> None:
    assert grades() == {("pan", "a"): 1.0, ("pan", "c"): 2 / 3, ("pot", "d"): 1.0}
    assert grades(share=0.5) == {("pan", "a"): 1.0, ("pan", "c"): 1.0, ("pot", "d"): 1.0}
    assert grades(least=2) == {("pan", "a"): 1.0, ("pan", "c"): 2 / 3}


def test_a_click_counts_for_more_the_less_its_rank_is_looked_at() -> None:
    assert grades(propensity=1.0) == {("pan", "c"): 1.0, ("pan", "a"): 0.5, ("pot", "d"): 1.0}


def test_what_is_wanted_first_after_the_cut_is_to_be_found() -> None:
    rows = [
        {"text": "pan", "clicked": ["a", "b"]},
        {"text": "pot", "clicked": ["d"]},
        {"text": "pan", "clicked": ["a", "c"], "purchased": ["e"]},
        {"text": "pot", "clicked": ["d"]},
    ]
    found = recurring_of(requests(rows), np.array([False, False, True, True]), 1.0, 1, 0.0).to_pylist()
    assert [(row["item_id"], row["grade"], row["later"]) for row in found] == [
        ("a", 1.0, False), ("b", 1.0, False), ("d", 1.0, False),
        ("a", 1.0, True), ("c", 1.0, True), ("e", 1.0, True), ("d", 1.0, True),
    ]  # fmt: skip


def recurring(folder: Path) -> DataSection:
    """Four queries of ten requests each; from the eighth on, people want another item."""
    queries = [query(f"q{n}", n, ["a", "b"], text=f"text {n % 4}") for n in range(40)]
    section = write(folder, queries, [event("click", f"q{n}", n + 0.5, "ab"[n >= 32]) for n in range(40)])
    (folder / "items.jsonl").write_text("".join(json.dumps({"item_id": name, "title": name}) + "\n" for name in "ab"))
    return section


def test_recurring_queries_are_parted_by_time(tmp_path: Path) -> None:
    run = {"runs_dir": tmp_path / "runs"}
    about = judge(Config(data=recurring(tmp_path / "shop"), run=run), tmp_path / "judged", 0.1, 2, 0.0)["about"]
    assert about["queries_to_find_more_for"] == 4
    config = Config(data=DataSection(folder=tmp_path / "judged"), run=run)
    data = read_dataset(config.data)
    (split,) = splits(data, "recurring", 5, 1.0, 13, tmp_path / "judged")
    assert split.cut == at(32)
    assert set(split.train["item_id"].to_pylist()) == {"a"}
    assert {*split.dev["item_id"].to_pylist(), *split.test["item_id"].to_pylist()} == {"b"}
    assert len(split.train) == len(split.dev) + len(split.test) == 4
    assert all(cut is None for cut in (one.cut for one in splits(data, "unseen", 2, 1.0, 13, tmp_path / "judged")))


def test_returning_queries_may_want_the_same_again(tmp_path: Path) -> None:
    section = recurring(tmp_path / "shop")
    with (tmp_path / "shop/ubi_events.jsonl").open("a") as log:  # text 0 wants its old item again, and text 9 is new
        log.write(json.dumps(event("click", "q36", 36.7, "a")) + "\n")
    run = {"runs_dir": tmp_path / "runs"}
    judge(Config(data=section, run=run), tmp_path / "judged", 0.1, 2, 0.0)
    data = read_dataset(DataSection(folder=tmp_path / "judged"))
    (split,) = splits(data, "returning", 5, 1.0, 13, tmp_path / "judged")
    assert (split.cut, split.returning) == (at(32), True)
    later = pa.concat_tables([split.dev, split.test])
    assert sorted(later["item_id"].to_pylist()) == ["a", "b", "b", "b", "b"]
    assert not set(split.dev["query_id"].to_pylist()) & set(split.test["query_id"].to_pylist())
    assert set(split.train["item_id"].to_pylist()) == {"a"}
    assert known_items(split) == {}, "nothing is taken out of a list"
    assert past_items(split).keys() == set(later["query_id"].to_pylist())
    (found,) = splits(data, "recurring", 5, 1.0, 13, tmp_path / "judged")
    assert set(pa.concat_tables([found.dev, found.test])["item_id"].to_pylist()) == {"b"}, "the same again is not new"
    (tmp_path / "judged/recurring.parquet").unlink()
    with pytest.raises(UserError, match=r"was not judged by logs.*leave returning out of evaluation\.regimes"):
        splits(data, "returning", 5, 1.0, 13, tmp_path / "judged")


def test_nothing_later_than_the_cut_is_trained_on(tmp_path: Path) -> None:
    run = {"runs_dir": tmp_path / "runs"}
    judge(Config(data=recurring(tmp_path / "shop"), run=run), tmp_path / "judged", 0.1, 2, 0.0)
    other = {"dev_share": 0.05, "test_share": 0.0}  # as if less had been held out
    config = Config(data=DataSection(folder=tmp_path / "judged"), run=run, logs=other)
    (split,) = splits(read_dataset(config.data), "recurring", 5, 1.0, 13, tmp_path / "judged")
    split = replace(split, dev=split.dev.slice(0, 0), test=split.test.slice(0, 0))  # whose requests are left out anyway
    with pytest.raises(UserError, match=r"requests up to 2025-03-01 10:00 would be trained on.*logs\.dev_share"):
        train_fold(read_dataset(config.data), split, config)


def test_a_damaged_file_of_recurring_queries_is_named(tmp_path: Path) -> None:
    run = {"runs_dir": tmp_path / "runs"}
    judge(Config(data=recurring(tmp_path / "shop"), run=run), tmp_path / "judged", 0.1, 2, 0.0)
    data = read_dataset(DataSection(folder=tmp_path / "judged"))
    (tmp_path / "judged" / "recurring.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"recurring\.parquet is not what `genrecall data judge` writes"):
        recurring_split(data, 13, folder=tmp_path / "judged")


def shop(folder: Path) -> DataSection:
    queries = [query(f"q{n}", n, ["a", "b"], text=f"text {n % 4}") for n in range(12)]
    section = write(folder, queries, [event("click", f"q{n}", n + 0.5, "ab"[n % 2]) for n in range(12)])
    (folder / "items.jsonl").write_text("".join(json.dumps({"item_id": name, "title": name}) + "\n" for name in "ab"))
    return section


def test_the_dataset_says_what_judged_it_and_can_be_read(tmp_path: Path) -> None:
    config = Config(data=shop(tmp_path / "shop"), run={"runs_dir": tmp_path / "runs"})
    description = judge(config, tmp_path / "judged", 0.1, 2, 0.0)
    data = read_dataset(DataSection(folder=tmp_path / "judged", max_reject_share=0))
    assert data.name == "shop, judged by clicks"
    assert description["about"]["position_bias"] == "not corrected"
    assert (len(data.items), len(data.queries), len(data.judgments)) == (2, 4, 4)
    assert set(data.judgments["grade"].to_pylist()) == {1.0}
    again = Config(data=DataSection(folder=tmp_path / "judged"), run={"runs_dir": tmp_path / "runs2"})
    assert judge(again, tmp_path / "twice", 0.1, 2, 1.0)["about"]["queries"] == 4, "its logs are found where they are"


def test_without_clicks_or_logs_there_is_nothing_to_judge_by(tmp_path: Path) -> None:
    config = Config(data=shop(tmp_path / "shop"), run={"runs_dir": tmp_path / "runs"})
    with pytest.raises(UserError, match="no query of shop has 9 requests"):
        judge(config, tmp_path / "judged", 0.1, 9, 0.0)
    for log in (tmp_path / "shop").glob("ubi_*"):
        log.unlink()
    with pytest.raises(UserError, match="has no logs"):
        judge(config, tmp_path / "judged", 0.1, 2, 0.0)
    assert not (tmp_path / "judged").exists()


def test_where_every_logged_query_is_held_out_judgments_alone_are_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge(Config(data=shop(tmp_path / "shop"), run={"runs_dir": tmp_path / "runs"}), tmp_path / "judged", 0.1, 2, 0.0)
    config = Config(data=DataSection(folder=tmp_path / "judged"), run={"runs_dir": tmp_path / "runs"})
    data = read_dataset(config.data)
    half = Split("halves", data.judgments.slice(0, 2), data.judgments.slice(0, 4), data.judgments.slice(0, 0))
    found = behaviour_of(config, data, half, progress=False)
    assert found.requests is None
    assert found.train.num_rows == 2
    assert "halves is learned from judgments alone: logs.split=query leaves none" in " ".join(
        capsys.readouterr().err.split()
    )
    nothing = Split("halves", data.judgments.slice(0, 0), data.judgments.slice(0, 4), data.judgments.slice(0, 0))
    with pytest.raises(UserError, match="leaves none of 12 requests"):
        behaviour_of(config, data, nothing, progress=False)
