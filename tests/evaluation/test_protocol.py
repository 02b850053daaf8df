import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genrecall.errors import UserError
from genrecall.evaluation import protocol
from genrecall.evaluation.protocol import (
    FoldChannels,
    JudgmentLeakError,
    check_no_leak,
    fold_key,
    held_out_queries,
    known_items,
    retrieve,
    run_fold,
    splits,
)
from genrecall.evaluation.runs import Run, ranking
from genrecall.records import Dataset, Split
from tests.evaluation.shop import judgments, shop


def channel(queries: pa.Table, depth: int) -> Run:
    """Every item of the shop in order."""
    items = shop().items["item_id"].to_numpy()
    return {q: ranking(items[:depth], -np.arange(len(items[:depth]))) for q in queries["query_id"].to_pylist()}


def test_every_judged_query_is_tested_in_exactly_one_fold() -> None:
    dataset = shop()
    tested = [q for split in splits(dataset, "unseen", 4, 1.0, seed=1) for q in set(split.test["query_id"].to_pylist())]
    assert sorted(tested) == dataset.queries["query_id"].to_pylist()


def test_a_split_that_comes_with_the_dataset_is_kept_to(tmp_path: Path) -> None:
    ids = shop().queries["query_id"].to_pylist()
    parts = {"train": ids[:8], "dev": ids[8:12], "test": ids[12:]}
    (tmp_path / "splits.json").write_text(json.dumps(parts), encoding="utf-8")
    made = splits(shop(), "unseen", 4, 1.0, seed=1, folder=tmp_path)
    assert [set(split.test["query_id"].to_pylist()) for split in made] == [set(ids[12:])]
    assert len(splits(shop(), "unseen", 4, 1.0, seed=1, folder=tmp_path / "none")) == 4


@pytest.mark.parametrize("regime", ["unseen", "recurring"])
def test_judgments_without_a_relevant_item_are_the_users_to_mend(regime: str) -> None:
    plain = shop()
    grades = pa.array([0.1] * len(plain.judgments), pa.float32())
    poor = replace(plain, judgments=plain.judgments.set_column(2, plain.judgments.schema.field("grade"), grades))
    with pytest.raises(UserError, match=r"lower data\.relevant"):
        splits(poor, regime, 4, 1.0, seed=1)


def test_splits_of_both_regimes_pass_their_own_leak_check() -> None:
    for regime in ("unseen", "recurring"):
        for split in splits(shop(), regime, 4, 1.0, seed=1):
            check_no_leak(shop(), split, unseen=regime == "unseen")


def test_a_test_query_in_train_is_a_leak() -> None:
    split = splits(shop(), "unseen", 4, 1.0, seed=1)[0]
    with pytest.raises(JudgmentLeakError, match="is in train and in test"):
        check_no_leak(shop(), replace(split, train=pa.concat_tables([split.train, split.test.slice(0, 1)])), True)


def test_a_test_query_in_dev_is_a_leak() -> None:
    split = splits(shop(), "unseen", 4, 1.0, seed=1)[0]
    with pytest.raises(JudgmentLeakError, match="dev"):
        check_no_leak(shop(), replace(split, dev=pa.concat_tables([split.dev, split.test.slice(0, 1)])), True)


def test_a_test_query_in_other_words_is_a_leak() -> None:
    dataset = shop()
    other = pa.table({"query_id": ["z"], "text": ["mugs red"]}, schema=dataset.queries.schema)
    dataset = replace(dataset, queries=pa.concat_tables([dataset.queries, other]))  # q00 is "red mug"
    split = Split("s", judgments(z={"i00": 1.0}), judgments(), judgments(q00={"i04": 1.0}))
    with pytest.raises(JudgmentLeakError, match="same stems"):
        check_no_leak(dataset, split, unseen=True)
    check_no_leak(dataset, split, unseen=False)


def test_an_item_to_be_found_that_is_known_already_is_a_leak() -> None:
    split = Split("s", judgments(q00={"i00": 1.0}), judgments(), judgments(q00={"i00": 1.0, "i04": 1.0}))
    with pytest.raises(JudgmentLeakError, match="is in train and in test"):
        check_no_leak(shop(), split, unseen=False)


def test_unseen_queries_have_no_known_items() -> None:
    assert all(known_items(split) == {} for split in splits(shop(), "unseen", 4, 1.0, seed=1))


def test_recurring_queries_never_list_what_training_knows() -> None:
    split = splits(shop(), "recurring", 4, 1.0, seed=1)[0]
    known = known_items(split)
    assert known
    runs = retrieve(shop(), split, {"all": channel}, depth=30)
    for query, r in runs["all"].items():
        assert not known.get(query, set()) & set(r.item_ids)
        assert len(r.item_ids) == 30  # retrieved deeper, so that enough are left


def test_only_dev_and_test_queries_are_asked() -> None:
    split = splits(shop(), "unseen", 4, 1.0, seed=1)[0]
    wanted = set(split.dev["query_id"].to_pylist()) | set(split.test["query_id"].to_pylist())
    assert set(held_out_queries(shop(), split)["query_id"].to_pylist()) == wanted
    assert len(wanted) < 16


def test_a_finished_fold_is_taken_from_disk(tmp_path: Path) -> None:
    split = splits(shop(), "unseen", 4, 1.0, seed=1)[0]
    entered: list[str] = []
    first = run_fold(shop(), split, _opening(entered), 20, tmp_path, "key")
    again = run_fold(shop(), split, _opening(entered), 20, tmp_path, "key")
    assert entered == ["fold0"]
    assert again.notes == first.notes == {"note": 1}
    for query, r in first.runs["all"].items():
        assert again.runs["all"][query].item_ids.tolist() == r.item_ids.tolist()
    run_fold(shop(), split, _opening(entered), 20, tmp_path, "other key")
    assert entered == ["fold0", "fold0"]


def test_an_interrupted_fold_is_asked_again(tmp_path: Path) -> None:
    split = splits(shop(), "unseen", 4, 1.0, seed=1)[0]

    @contextmanager
    def failing(split: Split) -> Iterator[FoldChannels]:
        def broken(queries: pa.Table, depth: int) -> Run:
            raise KeyboardInterrupt

        yield FoldChannels({"all": channel, "broken": broken})

    with pytest.raises(KeyboardInterrupt):
        run_fold(shop(), split, failing, 20, tmp_path, "key")
    entered: list[str] = []
    run_fold(shop(), split, _opening(entered), 20, tmp_path, "key")
    assert entered == ["fold0"]


def test_a_key_changes_with_all_that_decides_a_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset: Dataset = shop()
    one, other = splits(dataset, "unseen", 4, 1.0, seed=1)[:2]
    keys = [
        fold_key({"seed": 1}, dataset, one),
        fold_key({"seed": 2}, dataset, one),
        fold_key({"seed": 1}, dataset, other),
        fold_key({"seed": 1}, replace(dataset, fingerprints={"items.jsonl": "1" * 64}), one),
    ]
    assert fold_key({"seed": 1}, dataset, one) == keys[0]
    monkeypatch.setattr(protocol, "VERSION", protocol.VERSION + 1)
    keys.append(fold_key({"seed": 1}, dataset, one))
    assert len(set(keys)) == len(keys)


def _opening(entered: list[str]):  # type: ignore[no-untyped-def]
    @contextmanager
    def open_fold(split: Split) -> Iterator[FoldChannels]:
        entered.append(split.name)
        yield FoldChannels({"all": channel}, {"note": 1})

    return open_fold
