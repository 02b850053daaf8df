import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.evaluation.fusion import found, recall, rrf, shares, tune, union, unique
from genrecall.evaluation.metrics import Evaluator
from genrecall.evaluation.runs import EMPTY, Run, ranking
from tests.evaluation.shop import judgments, run_of

LISTS = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=10)


def test_rrf_by_hand() -> None:
    fused = rrf({"one": run_of(q="a b"), "two": run_of(q="b c")}, {"one": 1.0, "two": 0.5}, rank_constant=60, depth=10)
    assert fused["q"].item_ids.tolist() == ["b", "a", "c"]
    assert fused["q"].scores.tolist() == pytest.approx([1 / 62 + 0.5 / 61, 1 / 61, 0.5 / 62])


def test_ties_go_to_the_channel_named_first() -> None:
    runs = {"one": run_of(q="a"), "two": run_of(q="b")}
    assert rrf(runs, {"one": 1.0, "two": 1.0}, 60, 10)["q"].item_ids.tolist() == ["a", "b"]
    assert rrf(runs, {"two": 1.0, "one": 1.0}, 60, 10)["q"].item_ids.tolist() == ["b", "a"]


@given(LISTS, LISTS)
def test_a_channel_of_weight_zero_adds_nothing(one: list[str], two: list[str]) -> None:
    runs = {name: _run(items) for name, items in (("one", one), ("two", two))}
    assert rrf(runs, {"one": 1.0, "two": 0.0}, 60, 10)["q"].item_ids.tolist() == one


@given(LISTS, LISTS, st.floats(0.1, 10))
def test_only_the_proportion_of_weights_matters(one: list[str], two: list[str], scale: float) -> None:
    runs = {name: _run(items) for name, items in (("one", one), ("two", two))}
    plain = rrf(runs, {"one": 1.0, "two": 0.5}, 60, 20)["q"]
    scaled = rrf(runs, {"one": scale, "two": 0.5 * scale}, 60, 20)["q"]
    assert set(plain.item_ids) == set(scaled.item_ids) == set(one) | set(two)
    np.testing.assert_allclose(scaled.scores, plain.scores * scale, rtol=1e-5)


def test_a_channel_that_only_harms_gets_weight_zero() -> None:
    queries = [f"q{n}" for n in range(30)]
    good = {q: _run(list("abcde"))["q"] for q in queries}
    bad = {q: _run(list("vwxyz"))["q"] for q in queries}
    dev = Evaluator(judgments(**{q: dict.fromkeys("abcde", 1.0) for q in queries}), 1.0, ("R@5",))
    weights = tune({"good": good, "bad": bad}, dev, [0.0, 1.0], 60)
    assert weights["good"] == 1.0
    assert weights["bad"] == 0.0


def test_weights_stay_equal_where_dev_cannot_tell() -> None:
    runs = {"one": run_of(q="a b"), "two": run_of(q="a c")}
    dev = Evaluator(judgments(q={"a": 1.0}), 1.0, ("R@10",))
    assert tune(runs, dev, [0.0, 0.5, 1.0], 60) == {"one": 1.0, "two": 1.0}


def test_weights_stay_equal_without_dev_queries() -> None:
    runs: dict[str, Run] = {"one": {}, "two": {}}
    assert tune(runs, Evaluator(judgments(), 1.0, ("R@10",)), [0.0, 1.0], 60) == {"one": 1.0, "two": 1.0}


@given(st.integers(1, 500), st.integers(1, 5))
def test_the_budget_is_dealt_out_whole_and_equally(budget: int, channels: int) -> None:
    dealt = shares(budget, channels)
    assert sum(dealt) == budget
    assert max(dealt) - min(dealt) <= 1


def test_unions_of_two_and_three_channels_cost_the_same() -> None:
    runs = [{"q": ranking(np.array([f"{c}{n}" for n in range(300)], dtype=object), np.ones(300))} for c in "xyz"]
    for count, each in ((2, 150), (3, 100)):
        candidates = union(runs[:count], 300)["q"]
        assert len(candidates) == 300
        assert {name: sum(item[0] == name for item in candidates) for name in "xyz"[:count]} == dict.fromkeys(
            "xyz"[:count], each
        )


@given(LISTS, LISTS, LISTS, st.integers(3, 12))
def test_a_union_never_exceeds_its_budget(one: list[str], two: list[str], three: list[str], budget: int) -> None:
    assert len(union([_run(one), _run(two), _run(three)], budget)["q"]) <= budget


def test_recall_of_a_union_by_hand() -> None:
    evaluator = Evaluator(judgments(q={"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.1}), 1.0)
    candidates = union([run_of(q="a x"), run_of(q="d b")], 4)
    assert found(candidates, evaluator).tolist() == [2.0]
    assert recall(candidates, evaluator).tolist() == pytest.approx([2 / 3])


def test_unique_finds_are_what_all_other_channels_miss() -> None:
    evaluator = Evaluator(judgments(q=dict.fromkeys("abcd", 1.0)), 1.0)
    runs = {"one": run_of(q="a b"), "two": run_of(q="b x"), "three": run_of(q="c b")}
    finds, missed = unique(runs, "three", depth=2, evaluator=evaluator)
    assert (finds.tolist(), missed.tolist()) == ([1.0], [2.0])  # of c and d, which the others miss, it finds c
    finds, missed = unique(runs, "two", depth=2, evaluator=evaluator)
    assert (finds.tolist(), missed.tolist()) == ([0.0], [1.0])


def _run(items: list[str]) -> Run:
    return {"q": ranking(np.array(items, dtype=object), -np.arange(len(items))) if items else EMPTY}
