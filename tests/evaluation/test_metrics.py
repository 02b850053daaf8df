import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.evaluation.metrics import MEASURES, Evaluator, Resamples, bootstrap, bootstrap_ratio, lookup
from genrecall.evaluation.runs import EMPTY, ranking
from tests.evaluation import reference
from tests.evaluation.shop import judgments, run_of
from tests.evaluation.test_fusion import random_data


def test_recall_and_hit_rate_count_relevant_items_only() -> None:
    evaluator = Evaluator(
        judgments(q={"a": 1.0, "b": 0.1, "c": 1.0, "d": 1.0}), 1.0, ("R@2", "R@10", "Success@1", "Success@2")
    )
    values = evaluator.values(run_of(q="b a c x"))
    assert values["R@2"][0] == pytest.approx(1 / 3)
    assert values["R@10"][0] == pytest.approx(2 / 3)
    assert values["Success@1"][0] == 0  # b is no more than a substitute
    assert values["Success@2"][0] == 1


def test_ndcg_uses_the_grades_with_linear_gain() -> None:
    evaluator = Evaluator(judgments(q={"a": 1.0, "b": 0.1, "c": 0.01}), 1.0, ("nDCG@10",))
    ideal = 1.0 + 0.1 / math.log2(3) + 0.01 / math.log2(4)
    found = 0.1 + 1.0 / math.log2(3)
    assert evaluator.values(run_of(q="b a"))["nDCG@10"][0] == pytest.approx(found / ideal)


def test_a_lower_threshold_makes_more_items_relevant() -> None:
    evaluator = Evaluator(judgments(q={"a": 1.0, "b": 0.1}), 0.1, ("R@1",))
    assert evaluator.relevant == {"q": {"a", "b"}}
    assert evaluator.values(run_of(q="b"))["R@1"][0] == 0.5


def test_queries_without_a_relevant_item_are_left_out_and_counted() -> None:
    evaluator = Evaluator(judgments(q1={"a": 1.0}, q2={"a": 0.1}), 1.0)
    assert evaluator.query_ids == ["q1"]
    assert evaluator.skipped == 1


def test_a_query_without_any_answer_counts_as_zero() -> None:
    evaluator = Evaluator(judgments(q1={"a": 1.0}, q2={"a": 1.0}), 1.0, ("R@10", "nDCG@10"))
    values = evaluator.values({"q1": EMPTY, **run_of(q2="a")})
    assert values["R@10"].tolist() == [0.0, 1.0]
    assert values["nDCG@10"].tolist() == [0.0, 1.0]


def test_a_query_missing_from_the_run_is_an_error() -> None:
    with pytest.raises(ValueError, match="no ranking for query 'q2'"):
        Evaluator(judgments(q1={"a": 1.0}, q2={"a": 1.0}), 1.0).values(run_of(q1="a"))


def test_the_order_of_a_ranking_decides_where_scores_tie() -> None:
    evaluator = Evaluator(judgments(q={"a": 1.0}), 1.0, ("R@1",))
    for first, expected in (("a", 1.0), ("z", 0.0)):
        items = [first, *sorted({"a", "z"} - {first})]
        run = {"q": ranking(np.array(items, dtype=object), np.ones(2))}
        assert evaluator.values(run)["R@1"][0] == expected


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap(values, 1000, seed=3) == bootstrap(values, 1000, seed=3)
    assert bootstrap(values, 1000, seed=3) != bootstrap(values, 1000, seed=4)


@given(st.floats(-1, 1), st.integers(1, 30))
def test_equal_values_have_an_interval_without_width(value: float, count: int) -> None:
    interval = bootstrap(np.full(count, value), 200, seed=0)
    assert interval == pytest.approx((value, value, value))


def test_intervals_cover_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for sample in range(300):
        interval = bootstrap(rng.normal(0.3, 1.0, size=60), 500, seed=sample)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


def test_the_interval_of_a_clear_difference_excludes_zero() -> None:
    values = np.random.default_rng(2).normal(0.5, 0.1, size=40)
    assert bootstrap(values, 500, seed=0).low > 0
    none = bootstrap(values - values.mean(), 500, seed=0)
    assert none.low <= 0 <= none.high


@pytest.mark.parametrize("relevant", [0.01, 0.1, 1.0])
def test_measures_are_those_of_ir_measures_to_the_last_digit(relevant: float) -> None:
    runs, judged = random_data(7)
    names = (*MEASURES, "nDCG@3", "nDCG@100", "R@1", "Success@1")
    evaluator = Evaluator(judged, relevant, names)
    for run in runs.values():
        expected = reference.values(judged, evaluator.query_ids, relevant, run, list(names))
        for name, values in zip(names, expected, strict=True):
            np.testing.assert_array_equal(evaluator.values(run)[name], values)


def test_a_measure_that_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match="measure 'MAP'"):
        Evaluator(judgments(q={"a": 1.0}), 1.0, ("MAP",))


def test_values_are_looked_up_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    keys = np.array([rng.permutation(30)[:8] for _ in range(50)], dtype=np.int32)
    keys[rng.random(keys.shape) < 0.2] = -1
    values = rng.integers(1, 99, keys.shape).astype(np.int32)
    wanted = rng.integers(-1, 40, (50, 9)).astype(np.int32)
    expected = [
        [dict(zip(k, v, strict=True)).get(w, 0) if w >= 0 else 0 for w in row]
        for k, v, row in zip(keys.tolist(), values.tolist(), wanted.tolist(), strict=True)
    ]
    for cells in (1, 500, 10**6):  # one row at a time, a few, all at once
        monkeypatch.setattr("genrecall.evaluation.metrics._CELLS", cells)
        assert lookup(keys, values, wanted).tolist() == expected


def test_intervals_of_many_columns_are_those_of_each_alone() -> None:
    values = np.random.default_rng(4).normal(size=(70, 5))
    many = Resamples(70, 1000, seed=3).means(values)
    for column, interval in zip(values.T, many, strict=True):
        assert interval == pytest.approx(bootstrap(column, 1000, seed=3), abs=1e-12)
        assert interval == pytest.approx(reference.bootstrap(column, 1000, seed=3), abs=1e-12)


def test_a_share_is_taken_over_all_queries_together() -> None:
    interval = bootstrap_ratio(np.array([1.0, 0.0]), np.array([1.0, 3.0]), 500, seed=0)
    assert interval.mean == 0.25
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_a_share_of_nothing_is_zero() -> None:
    assert bootstrap_ratio(np.zeros(3), np.zeros(3), 500, seed=0) == (0.0, 0.0, 0.0)
