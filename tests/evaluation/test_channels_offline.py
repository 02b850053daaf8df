from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.config.evaluation import Bm25Section, OrderWithinSection
from genrecall.evaluation.channels_node import node_channel
from genrecall.evaluation.channels_offline import Bm25, bm25, generative, knn, order_within
from genrecall.evaluation.runs import Channel
from genrecall.expansion import SidItems
from genrecall.records import QUERIES
from genrecall.sid import SidSpace
from tests.evaluation.shop import shop


@dataclass
class Answer:
    codes: np.ndarray
    scores: np.ndarray
    valid: np.ndarray


def queries(*texts: str) -> pa.Table:
    return pa.Table.from_pylist([{"query_id": f"q{n}", "text": text} for n, text in enumerate(texts)], QUERIES)


def lexical(*fields: str) -> Channel:
    items = shop().items
    return bm25(items["item_id"].to_pylist(), Bm25.of(items, fields, Bm25Section()))


def test_bm25_puts_items_with_all_words_first() -> None:
    run = lexical("title^2", "category")(queries("blue towels"), 40)
    first = run["q0"].item_ids[:2].tolist()
    assert first == ["i13", "i17"]  # the blue ones among the towels i10 to i19, equal scores in the catalogue's order


def test_bm25_ranks_only_items_that_share_a_word() -> None:
    channel = lexical("title")
    run = channel(queries("blue", "🦄 شاي", "the of"), 40)
    assert len(run["q0"].item_ids) == 10
    assert len(run["q1"].item_ids) == len(run["q2"].item_ids) == 0


def test_bm25_searches_only_the_fields_named() -> None:
    assert len(lexical("title")(queries("acme"), 40)["q0"].item_ids) == 0
    assert len(lexical("brand")(queries("acme"), 40)["q0"].item_ids) == 40


def test_documents_may_be_expanded() -> None:
    items = shop().items
    ids = items["item_id"].to_pylist()
    index = Bm25.of(items, ["title"], Bm25Section(), ["beaker" if item == "i07" else "" for item in ids])
    assert bm25(ids, index)(queries("beakers"), 40)["q0"].item_ids.tolist() == ["i07"]


@given(st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_knn_is_exact(depth: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    items, query = rng.normal(size=(40, 4)).astype(np.float32), rng.normal(size=(1, 4)).astype(np.float32)
    ids = [f"i{n}" for n in range(40)]
    run = knn(ids, items, lambda texts: query)(queries("x"), depth)
    expected = [ids[n] for n in np.argsort(-(query @ items.T)[0], kind="stable")[:depth]]
    assert run["q0"].item_ids.tolist() == expected


def test_items_are_ranked_by_the_share_they_have_of_their_sid() -> None:
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    scores = np.log([[0.6, 0.3]]).astype(np.float32)  # .6 among three items is less than .3 for one
    answer = Answer(np.array([[[0, 0, 0], [0, 0, 1]]]), scores, np.ones((1, 2), bool))
    run = generative(lambda texts, k: answer, ["a", "b", "c", "d"], codes, 2)(queries("x"), 10)
    assert run["q0"].item_ids.tolist() == ["b", "a", "c", "d"]
    np.testing.assert_allclose(np.exp(run["q0"].scores), [0.3, 0.2, 0.2, 0.2], rtol=1e-5)


def test_beams_that_are_not_valid_and_sids_without_items_are_left_out() -> None:
    answer = Answer(
        np.array([[[0, 0, 0], [9, 9, 9], [0, 0, 1]]]), np.array([[-1.0, -1.5, -2.0]]), np.array([[True, True, False]])
    )
    run = generative(lambda texts, k: answer, ["a", "b"], np.array([[0, 0, 0], [0, 0, 1]]), 3)(queries("x"), 10)
    assert run["q0"].item_ids.tolist() == ["a"]


def test_a_generator_that_answers_nothing_gives_an_empty_list() -> None:
    answer = Answer(np.zeros((1, 2, 3), int), np.full((1, 2), -np.inf), np.zeros((1, 2), bool))
    run = generative(lambda texts, k: answer, ["a"], np.array([[0, 0, 0]]), 2)(queries("x"), 10)
    assert len(run["q0"].item_ids) == 0


@pytest.mark.parametrize("with_vectors", [True, False])
def test_items_of_the_generated_sids_are_ordered_by_their_own_scores(with_vectors: bool) -> None:
    """Against brute force: every item scored, those of other SIDs left out. The generator's items in an own order."""
    rng = np.random.default_rng(3)
    shuffled = rng.permutation(40)
    ids, codes = [f"i{n:02}" for n in shuffled], np.array([[n // 10, n % 2, n % 4 // 2] for n in shuffled])
    sids = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [2, 0, 1]])
    answer = Answer(sids[None], np.array([[-1.0, -2.0, -2.2, -4.0]]), np.ones((1, 4), bool))
    item_vectors, query = rng.normal(size=(40, 8)), rng.normal(size=(1, 8))
    index, section = Bm25.of(shop().items, ["title"], Bm25Section()), OrderWithinSection(weight=0.7, vector_weight=3)
    dense = (lambda texts: query, item_vectors) if with_vectors else ()
    within = order_within(section, index, shuffled, *dense)
    run = generative(lambda texts, k: answer, ids, codes, 4, within)(queries("red mug 12"), 12)["q0"]

    own = index.scores(["red mug 12"])[0] + (3 * (item_vectors @ query[0]) if with_vectors else 0)
    log_p = {tuple(sid): score for sid, score in zip(sids.tolist(), answer.scores[0].tolist(), strict=True)}
    expected = {}
    for item, code in zip(shuffled.tolist(), map(tuple, codes.tolist()), strict=True):
        if code in log_p:
            expected[f"i{item:02}"] = log_p[code] - np.log((codes == code).all(axis=1).sum()) + 0.7 * own[item]
    best = sorted(expected, key=expected.__getitem__, reverse=True)[:12]
    assert [expected[i] for i in run.item_ids] == pytest.approx([expected[i] for i in best])
    np.testing.assert_allclose(run.scores, [expected[i] for i in run.item_ids], rtol=1e-5)


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=30), st.integers(1, 40))
def test_an_expansion_lists_each_item_of_its_sids_once(codes: list[tuple[int, int, int]], depth: int) -> None:
    ids = [f"i{n}" for n in range(len(codes))]
    sids = np.unique(np.array(codes), axis=0)
    space = SidSpace.of(np.array(codes))
    items = SidItems.of(space.index_of(np.array(codes)), len(space))
    rows, scores = items.rank(space.index_of(sids), np.zeros(len(sids)), depth)
    assert len(set(rows.tolist())) == len(rows) == min(depth, len(ids))
    assert (np.diff(scores) <= 0).all()


def test_a_node_channel_sends_one_request_a_query_and_cuts_its_answer() -> None:
    sent: list[str] = []

    def search(bodies: list[dict]) -> list[tuple[np.ndarray, np.ndarray]]:
        sent.extend(body["text"] for body in bodies)
        return [(np.array(["a", "b", "c"]), np.array([3.0, 2.0, 1.0])) for _ in bodies]

    channel = node_channel(search, lambda texts, depth: [{"text": text} for text in texts])
    run = channel(queries(*(f"text {n}" for n in range(100))), 2)
    assert sent == [f"text {n}" for n in range(100)]
    assert len(run) == 100
    assert run["q99"].item_ids.tolist() == ["a", "b"]


def test_a_node_that_leaves_a_query_unanswered_is_an_error() -> None:
    channel = node_channel(lambda bodies: [], lambda texts, depth: [{} for _ in texts])
    with pytest.raises(ValueError, match="shorter"):
        channel(queries("x"), 2)


@pytest.mark.parametrize(
    ("titles", "query", "best"),
    [
        (["เสื้อยืดผู้ชายสีดำ", "รองเท้าวิ่งสีแดง", "กางเกงขายาว"], "รองเท้าวิ่ง", 1),
        (["红色运动鞋男士", "蓝色背包", "厨房不锈钢锅"], "红色运动鞋", 0),
        (["लाल जूते", "नीला बैग", "काली टोपी"], "नीला बैग", 1),
        (["Bettwäsche mit Reißverschluss für das Bett", "Töpfe aus Stahl und Glas"], "topf", 1),
    ],
)
def test_bm25_finds_words_of_any_script_and_language(titles: list[str], query: str, best: int) -> None:
    scores = Bm25(titles, Bm25Section()).scores([query])[0]
    assert scores.argmax() == best
    assert scores[best] > 0
