"""Splits never let a test query, its reordering, or an item it has to find into training."""

from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecall.data.splits import kfold_splits, query_groups, read_split, recurring_split
from genrecall.errors import UserError
from genrecall.records import ITEMS, JUDGMENTS, QUERIES, Dataset, Split

WORDS = ["red", "shoe", "shoes", "running", "run", "bag", "blue", "für", "אדום"]


def dataset(texts: list[str], judged: list[tuple[int, int, float]], items: int = 12) -> Dataset:
    rows = {(query % len(texts), item): grade for query, item, grade in judged}
    judgments = [{"query_id": f"q{q}", "item_id": f"i{i}", "grade": grade} for (q, i), grade in rows.items()]
    return Dataset(
        "small",
        pa.Table.from_pylist(
            [{"item_id": f"i{i}", "title": "t", "category": [], "brand": "", "text": ""} for i in range(items)], ITEMS
        ),
        pa.Table.from_pylist([{"query_id": f"q{n}", "text": text} for n, text in enumerate(texts)], QUERIES),
        pa.Table.from_pylist(judgments, JUDGMENTS),
    )


def datasets() -> st.SearchStrategy[Dataset]:
    texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join), min_size=4, max_size=20)
    judged = st.lists(
        st.tuples(st.integers(0, 19), st.integers(0, 11), st.sampled_from([0.0, 0.1, 1.0])), min_size=20, max_size=120
    )
    return st.builds(dataset, texts, judged)


def stems_of(data: Dataset, part: pa.Table) -> set[int]:
    group = dict(zip(data.queries["query_id"].to_pylist(), query_groups(data.queries["text"].to_pylist()), strict=True))
    return {int(group[query]) for query in part["query_id"].to_pylist()}


def pairs(table: pa.Table) -> list[tuple[str, str, float]]:
    return [tuple(row.values()) for row in table.to_pylist()]


def relevant(table: pa.Table) -> dict[str, set[str]]:
    found = defaultdict(set)
    for query, item, grade in pairs(table):
        if grade >= 1:
            found[query].add(item)
    return found


def parts(split: Split) -> tuple[pa.Table, pa.Table, pa.Table]:
    return split.train, split.dev, split.test


def test_reordered_and_inflected_queries_are_one_group() -> None:
    one, two, three, four = query_groups(["red running shoes", "Shoe, red  RUN", "red bag", "!!"])
    assert one == two
    assert len({one, three, four}) == 3


def test_queries_of_any_script_are_grouped_by_their_words() -> None:
    texts = [
        "เสื้อ ผ้า",
        "ผ้า เสื้อ",
        "लाल जूते",
        "जूते लाल",
        "красные туфли",
        "туфля красная",
        "红色跑鞋",
        "跑鞋",
        "café",
        "cafe",
    ]
    groups = query_groups(texts).tolist()
    assert [groups[n] == groups[n + 1] for n in range(0, len(texts), 2)] == [True, True, True, False, True]
    assert len(set(groups)) == 6


@settings(max_examples=60, deadline=None)
@given(datasets(), st.integers(0, 5))
def test_no_query_nor_its_reordering_is_in_two_parts_of_a_fold(data: Dataset, seed: int) -> None:
    available = len(stems_of(data, data.judgments))
    if available < 3:
        return
    splits = kfold_splits(data, 3, seed)
    for split in splits:
        train, dev, test = (stems_of(data, part) for part in parts(split))
        assert not train & dev
        assert not train & test
        assert not dev & test
        assert sorted(pair for part in parts(split) for pair in pairs(part)) == sorted(pairs(data.judgments))
    tested = [pair for split in splits for pair in pairs(split.test)]
    assert sorted(tested) == sorted(pairs(data.judgments))


@settings(max_examples=100, deadline=None)
@given(datasets(), st.integers(0, 5))
def test_recurring_items_to_be_found_are_never_in_train(data: Dataset, seed: int) -> None:
    split = recurring_split(data, seed)
    group = dict(zip(data.queries["query_id"].to_pylist(), query_groups(data.queries["text"].to_pylist()), strict=True))
    given_away = {(group[query], item) for query, item, _ in pairs(split.train)}
    for part in (split.dev, split.test):
        assert not given_away & {(group[query], item) for query, item, _ in pairs(part)}
        assert set(relevant(part)) == set(part["query_id"].to_pylist()), "a query has nothing to find"
    assert not stems_of(data, split.dev) & stems_of(data, split.test)
    assert all(grade >= 1 for _, _, grade in pairs(split.train))


def test_half_of_the_relevant_items_of_a_recurring_query_are_known() -> None:
    data = dataset(["red shoes", "blue bag"], [(q, i, 1.0) for q in (0, 1) for i in range(8)] + [(0, 9, 0.1)])
    split = recurring_split(data, seed=3, dev_share=0.5)
    assert {query: len(items) for query, items in relevant(split.train).items()} == {"q0": 4, "q1": 4}
    assert {len(items) for part in (split.dev, split.test) for items in relevant(part).values()} == {4}


def test_same_seed_gives_same_splits() -> None:
    data = dataset(WORDS, [(q, i, 1.0) for q in range(9) for i in range(4)])
    assert kfold_splits(data, 3, 7)[1].test == kfold_splits(data, 3, 7)[1].test
    assert recurring_split(data, 7).test == recurring_split(data, 7).test
    assert recurring_split(data, 7).train != recurring_split(data, 8).train


def test_read_split_is_taken_as_it_is(tmp_path: Path) -> None:
    data = dataset(["red shoes", "blue bag", "run"], [(q, 0, 1.0) for q in range(3)])
    path = tmp_path / "splits.json"
    path.write_text('{"train": ["q0"], "dev": [], "test": ["q2"]}')
    split = read_split(data, path)
    assert [part["query_id"].to_pylist() for part in parts(split)] == [["q0"], [], ["q2"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"train": ["q0"], "dev": [], "test": ["q1"]}',
            "query q0 is in train and query q1, the same words, is in test",
        ),
        ('{"train": ["q2"], "dev": [], "test": ["q2"]}', "lists 1 queries twice"),
        ('{"train": ["q2"]}', "is not a split"),
        ("[]", "is not a split"),
    ],
)
def test_read_split_that_leaks_or_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    data = dataset(["red shoes", "shoe red", "bag"], [(q, 0, 1.0) for q in range(3)])
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_split(data, tmp_path / "splits.json")


def test_more_folds_than_distinct_queries_are_refused() -> None:
    data = dataset(["red shoes", "shoes red"], [(0, 0, 1.0), (1, 1, 1.0)])
    with pytest.raises(UserError, match="cannot make 2 folds of 1 distinct"):
        kfold_splits(data, 2, 0)
