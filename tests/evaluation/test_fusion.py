import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.evaluation.fusion import recall, rrf, shares, top_columns, tune, union, unions, unique
from genrecall.evaluation.metrics import Evaluator
from genrecall.evaluation.runs import Run, ranking
from genrecall.records import JUDGMENTS
from tests.evaluation import reference
from tests.evaluation.shop import judgments, run_of

LISTS = st.lists(st.integers(0, 9), unique=True, max_size=10)


def row(items: list[int]) -> np.ndarray:
    """The list of one query."""
    return np.array([items], dtype=np.int32)


def fused(lists: dict[str, list[int]], weights: dict[str, float], depth: int = 20) -> list[int]:
    """RRF of one query's lists."""
    (found,) = rrf({name: row(of) for name, of in lists.items()}, weights, 60, depth)
    return [item for item in found.tolist() if item >= 0]


def test_rrf_by_hand() -> None:
    assert fused({"one": [0, 1], "two": [1, 2]}, {"one": 1.0, "two": 0.5}) == [1, 0, 2]
    assert fused({"one": [0, 1], "two": [1, 2]}, {"one": 1.0, "two": 0.5}, depth=2) == [1, 0]


def test_ties_go_to_the_channel_named_first() -> None:
    lists = {"one": [0], "two": [1]}
    assert fused(lists, {"one": 1.0, "two": 1.0}) == [0, 1]
    assert fused(lists, {"two": 1.0, "one": 1.0}) == [1, 0]


@given(LISTS, LISTS)
def test_a_channel_of_weight_zero_adds_nothing(one: list[int], two: list[int]) -> None:
    assert fused({"one": one, "two": two}, {"one": 1.0, "two": 0.0}) == one


@given(LISTS, LISTS, st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_only_the_proportion_of_weights_matters(one: list[int], two: list[int], scale: float) -> None:
    lists = {"one": one, "two": two}
    plain = fused(lists, {"one": 1.0, "two": 0.5})
    assert fused(lists, {"one": scale, "two": 0.5 * scale}) == plain
    assert set(plain) == {*one, *two}


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=5), st.integers(0, 8))
def test_top_columns_are_the_head_of_a_stable_sort(scores: list[list[int]], depth: int) -> None:
    columns, found = top_columns(np.array(scores, dtype=float), depth)
    expected = [sorted(range(6), key=lambda at: (-row[at], at))[:depth] for row in scores]
    assert columns.tolist() == expected
    assert found.tolist() == [[row[at] for at in of] for row, of in zip(scores, expected, strict=True)]


def test_a_channel_that_only_harms_gets_weight_zero() -> None:
    queries = [f"q{n}" for n in range(30)]
    dev = Evaluator(judgments(**{q: dict.fromkeys("abcde", 1.0) for q in queries}), 1.0, ("R@5",))
    good, bad = (dev.lists({q: run_of(q=" ".join(items))["q"] for q in queries}) for items in ("abcde", "vwxyz"))
    weights = tune({"good": good, "bad": bad}, dev, [0.0, 1.0], 60)
    assert weights["good"] == 1.0
    assert weights["bad"] == 0.0


def test_weights_stay_equal_where_dev_cannot_tell() -> None:
    dev = Evaluator(judgments(q={"a": 1.0}), 1.0, ("R@10",))
    lists = {name: dev.lists(run) for name, run in (("one", run_of(q="a b")), ("two", run_of(q="a c")))}
    assert tune(lists, dev, [0.0, 0.5, 1.0], 60) == {"one": 1.0, "two": 1.0}


def test_weights_stay_equal_without_dev_queries() -> None:
    dev = Evaluator(judgments(), 1.0, ("R@10",))
    assert tune({"one": dev.lists({}), "two": dev.lists({})}, dev, [0.0, 1.0], 60) == {"one": 1.0, "two": 1.0}


@given(st.integers(1, 500), st.integers(1, 5))
def test_the_budget_is_dealt_out_whole_and_equally(budget: int, channels: int) -> None:
    dealt = shares(budget, channels)
    assert sum(dealt) == budget
    assert max(dealt) - min(dealt) <= 1


def test_unions_of_one_two_and_three_channels_cost_the_same() -> None:
    lists = [np.arange(300, dtype=np.int32)[None] + 1000 * channel for channel in range(3)]
    for count, each in ((1, 300), (2, 150), (3, 100)):
        (candidates,) = union(lists[:count], 300)
        assert np.bincount(candidates // 1000).tolist() == [each] * count


@given(LISTS, LISTS, LISTS, st.integers(3, 12))
def test_a_union_holds_each_item_once_within_its_budget(
    one: list[int], two: list[int], three: list[int], budget: int
) -> None:
    (found,) = union([row(items) for items in (one, two, three)], budget)
    candidates = found[found >= 0].tolist()
    assert len(set(candidates)) == len(candidates) <= budget


def test_recall_of_a_union_by_hand() -> None:
    evaluator = Evaluator(judgments(q={"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.1}), 1.0)
    candidates = union([evaluator.lists(run_of(q="a x")), evaluator.lists(run_of(q="d b"))], 4)
    assert evaluator.found(candidates).tolist() == [2.0]
    assert recall(candidates, evaluator).tolist() == pytest.approx([2 / 3])


def test_unique_finds_are_what_all_other_channels_miss() -> None:
    evaluator = Evaluator(judgments(q=dict.fromkeys("abcd", 1.0)), 1.0)
    runs = {"one": run_of(q="a b"), "two": run_of(q="b x"), "three": run_of(q="c b")}
    lists = {name: evaluator.lists(run) for name, run in runs.items()}
    finds, missed = unique(lists, "three", depth=2, evaluator=evaluator)
    assert (finds.tolist(), missed.tolist()) == ([1.0], [2.0])  # of c and d, which the others miss, it finds c
    finds, missed = unique(lists, "two", depth=2, evaluator=evaluator)
    assert (finds.tolist(), missed.tolist()) == ([0.0], [1.0])


MEASURED = ["R@50", "nDCG@10"]


def random_data(seed: int, queries: int = 150, items: int = 300, depth: int = 80) -> tuple[dict[str, Run], pa.Table]:
    """Three channels that overlap, with lists of every length, some empty; judgments of several grades."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"i{n}" for n in range(items)], dtype=object)
    runs: dict[str, Run] = {name: {} for name in ("one", "two", "three")}
    rows = []
    for query in (f"q{n}" for n in range(queries)):
        wanted = rng.choice(items, 12, replace=False)
        for noise, run in zip((5.0, 15.0, 40.0), runs.values(), strict=True):
            scores = np.isin(np.arange(items), wanted) * 20 + rng.normal(0, noise, items)
            best = np.argsort(-scores)[: rng.integers(0, depth)]
            run[query] = ranking(ids[best], scores[best])
        grades = rng.choice([0.0, 0.01, 0.1, 1.0], 12).tolist()
        rows += [
            {"query_id": query, "item_id": ids[i], "grade": g} for i, g in zip(wanted.tolist(), grades, strict=True)
        ]
    return runs, pa.Table.from_pylist(rows, JUDGMENTS)


@pytest.mark.parametrize("seed", range(4))
def test_fusion_is_that_of_the_plain_reference(seed: int) -> None:
    runs, judged = random_data(seed)
    evaluator = Evaluator(judged, 0.1, tuple(MEASURED))
    runs = {name: {q: run[q] for q in evaluator.query_ids} for name, run in runs.items()}
    lists = {name: evaluator.lists(run) for name, run in runs.items()}
    for point in ((1.0, 1.0, 1.0), (0.3, 0.0, 1.0), (0.0, 0.1, 1.0), (1.0, 0.5, 0.5)):
        weights = dict(zip(runs, point, strict=True))
        expected = reference.rrf(runs, weights, 60, 60)
        for query, found in zip(evaluator.query_ids, rrf(lists, weights, 60, 60), strict=True):
            assert evaluator.item_ids(found) == expected[query].item_ids.tolist()
    grid = [0.0, 0.1, 0.3, 0.5, 1.0]
    tuned = tune(lists, evaluator, grid, 60)
    assert tuned == reference.tune(runs, judged, evaluator.query_ids, 0.1, MEASURED, grid, 60)
    for budget in (7, 30, 150):
        found = union(list(lists.values()), budget)
        (relevant, distinct), *_ = unions(list(lists.values()), [budget], evaluator)
        assert relevant.tolist() == evaluator.found(found).tolist()
        assert distinct.tolist() == (found >= 0).sum(axis=1).tolist()
        expected_union = reference.union(list(runs.values()), budget)
        for query, candidates in zip(evaluator.query_ids, found, strict=True):
            assert set(evaluator.item_ids(candidates)) == expected_union[query]


def test_lists_longer_than_a_block_of_queries_are_fused_alike() -> None:
    runs, judged = random_data(9, queries=700)
    evaluator = Evaluator(judged, 0.01)
    lists = {name: evaluator.lists(run) for name, run in runs.items()}
    whole = rrf(lists, dict.fromkeys(lists, 1.0), 60, 40)
    for n in (0, 127, 128, len(whole) - 1):
        alone = rrf({name: of[[n]] for name, of in lists.items()}, dict.fromkeys(lists, 1.0), 60, 40)
        np.testing.assert_array_equal(alone[0], whole[n])
