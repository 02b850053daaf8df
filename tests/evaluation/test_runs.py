import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecall.evaluation.runs import EMPTY, ranking, read_trec, top, without, write_trec
from tests.evaluation.shop import run_of

IDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 45))
def test_top_is_the_head_of_a_stable_sort(scores: list[int], depth: int) -> None:
    expected = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:depth]
    assert top(np.array(scores, dtype=float), depth).tolist() == expected


def test_top_leaves_out_what_is_not_ranked() -> None:
    assert top(np.array([-np.inf, 1.0, -np.inf, 2.0]), 3).tolist() == [3, 1]
    assert top(np.full(4, -np.inf), 3).tolist() == []


def test_known_items_are_taken_out_before_the_cut() -> None:
    run = without(run_of(q1="a b c d", q2="a b"), {"q1": {"a", "c"}}, depth=2)
    assert run["q1"].item_ids.tolist() == ["b", "d"]
    assert run["q2"].item_ids.tolist() == ["a", "b"]


@settings(max_examples=25)
@given(st.dictionaries(IDS, st.lists(IDS, unique=True, max_size=6), max_size=4))
def test_a_run_survives_its_trec_file(tmp_path_factory: pytest.TempPathFactory, lists: dict[str, list[str]]) -> None:
    path = tmp_path_factory.mktemp("trec") / "run.trec"
    run = {q: ranking(np.array(items, dtype=object), -np.arange(len(items)) / 7) for q, items in lists.items()}
    write_trec(run, path, "tag")
    back = read_trec(path, list(run))
    assert list(back) == list(run)
    for query, written in run.items():
        assert back[query].item_ids.tolist() == written.item_ids.tolist()
        np.testing.assert_allclose(back[query].scores, written.scores, rtol=1e-6)


def test_tied_scores_keep_their_order_in_a_trec_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("trec") / "run.trec"
    write_trec({"q": ranking(np.array(["b", "a", "c"], dtype=object), np.ones(3))}, path, "tag")
    assert read_trec(path, ["q"])["q"].item_ids.tolist() == ["b", "a", "c"]


def test_a_run_is_ordered_by_score_as_trec_eval_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("trec") / "run.trec"
    path.write_text("q Q0 low 1 0.5 t\nq Q0 a 2 0.75 t\nq Q0 top 3 9e-1 t\nq Q0 b 4 0.75 t\n", encoding="utf-8")
    ours = read_trec(path, ["q"])["q"].item_ids.tolist()
    measures = [ir_measures.P @ n for n in (1, 2, 3)]
    judged = {"q": {item: 1 for item in ours[:1]}}, {"q": {item: 1 for item in ours[1:2]}}, {"q": {ours[2]: 1}}
    scored = list(ir_measures.read_trec_run(str(path)))
    for n, (measure, qrels) in enumerate(zip(measures, judged, strict=True), 1):
        assert ir_measures.calc_aggregate([measure], qrels, scored)[measure] == pytest.approx(1 / n)
    assert ours == ["top", "b", "a", "low"]


def test_a_query_without_lines_reads_as_an_empty_ranking(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("trec") / "run.trec"
    write_trec({"q1": EMPTY}, path, "tag")
    assert len(read_trec(path, ["q1"])["q1"].item_ids) == 0


def test_a_malformed_trec_line_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("trec") / "run.trec"
    path.write_text("q1 Q0 a 1 0.5 tag\nq1 Q0 b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.trec:2: not a TREC run line"):
        read_trec(path, ["q1"])
