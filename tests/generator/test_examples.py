from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.config.generator import SamplingSection
from tests.generator.shop import catalogue, logs
from trainer.generator.dev import graded_recall
from trainer.generator.examples import Examples, draw_pairs, examples_of, judged_items, shares_of
from trainer.generator.synthetic import content_words, item_generator, synthetic_queries


def examples(section: SamplingSection = SamplingSection()) -> Examples:
    items, codes, space = catalogue()
    queries, train, _ = logs()
    return examples_of(items, space.index_of(codes), train, queries, section, seed=1)


def test_grades_of_zero_and_unknown_ids_are_left_out() -> None:
    items, _, _ = catalogue()
    queries, train, _ = logs()
    stranger = pa.Table.from_pylist([{"query_id": "q01", "item_id": "gone", "grade": 1.0}], train.schema)
    judged = judged_items(pa.concat_tables([train, stranger]), items, queries)
    assert len(judged.texts) == 12
    assert (np.diff(judged.start) == 4).all()
    assert sorted(set(judged.grade.tolist())) == pytest.approx([0.1, 1.0])


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 20), targets=st.integers(1, 4))
def test_every_sid_drawn_is_a_target_of_its_text(seed: int, batch: int, targets: int) -> None:
    found = examples()
    text, sid = draw_pairs(found, {"real": 0.5, "synthetic": 0.5}, batch, targets, np.random.default_rng(seed))
    for t, s in zip(text, sid, strict=True):
        assert s in found.sid[found.start[t] : found.start[t + 1]]


def test_targets_are_drawn_by_grade() -> None:
    found = examples()
    text, sid = draw_pairs(found, {"real": 1.0}, 2000, 2, np.random.default_rng(0))
    wanted = {(t, s): w for t in range(12) for s, w in zip(*targets_of(found, t), strict=True)}
    best = np.mean([wanted[t, s] for t, s in zip(text.tolist(), sid.tolist(), strict=True)])
    assert best == pytest.approx((3 * 1.0 + 0.1 * 0.1) / 3.1, abs=0.02)


def targets_of(found: Examples, text: int) -> tuple[list[int], list[float]]:
    rows = slice(found.start[text], found.start[text + 1])
    return found.sid[rows].tolist(), found.weight[rows].tolist()


def test_shares_follow_what_there_is() -> None:
    section = SamplingSection(synthetic_per_item=0)
    assert shares_of(examples(), SamplingSection()) == {"real": 0.5, "synthetic": 0.5}
    assert shares_of(examples(section), section) == {"real": 1.0}


def test_a_large_catalogue_is_sampled_for_synthetic_queries() -> None:
    assert examples(SamplingSection(synthetic_per_item=3, max_synthetic=30)).size("synthetic") == 30


def test_synthetic_queries_say_what_the_item_says() -> None:
    made = synthetic_queries(
        "The ACME Red Mug, 12 oz (Pack of 2)", "Acme", ["Home", "Coffee Mugs"], 9, item_generator(1, "a")
    )
    words = {word for query in made for word in query.split()}
    assert len(made) == 9
    assert words <= {"acme", "red", "mug", "oz", "coffee", "mugs"}
    assert any(query.startswith("acme ") for query in made)
    assert any("coffee mugs" in query for query in made)


def test_synthetic_queries_of_an_item_do_not_depend_on_the_rest_of_the_catalogue() -> None:
    items, codes, space = catalogue()
    queries, train, _ = logs()
    turned = np.arange(len(items))[::-1]
    other = examples_of(
        items.take(pa.array(turned)),
        space.index_of(codes[turned]),
        train.slice(0, 9),
        queries,
        SamplingSection(),
        seed=1,
    )
    first, end = examples().groups["synthetic"]
    again, last = other.groups["synthetic"]
    assert sorted(examples().texts[first:end]) == sorted(other.texts[again:last])


@pytest.mark.parametrize("title", ["", "12 34", "the of", "🧦", "!!!"])
def test_an_item_without_words_gives_no_query(title: str) -> None:
    assert synthetic_queries(title, "", [], 3, item_generator(1, "a")) == []


def test_content_words_keep_other_scripts_and_compounds() -> None:
    assert content_words("Kid's T-shirt حذاء رياضي 2 pcs") == ["kid's", "t-shirt", "حذاء", "رياضي"]


@pytest.mark.parametrize(
    "title",
    ["เสื้อยืดผู้ชายสีดำ", "東京西川 枕 高さ調節", "红色运动鞋男士透气网面", "लाल जूते पुरुष", "운동화 남성용 편한 러닝화"],
)
def test_synthetic_queries_of_any_script_are_parts_of_the_title(title: str) -> None:
    made = synthetic_queries(title, "", [], 8, item_generator(1, "a"))
    assert len(made) == 8
    assert len(set(made)) > 1
    for query in made:
        assert query in title
        assert not unicodedata.category(query[0]).startswith("M"), "a query begins with a letter, not with a mark"


def test_a_half_relevant_item_counts_half() -> None:
    assert graded_recall(np.array([1, 2]), np.array([1, 3, 4]), np.array([0.5, 1.0, 0.5])) == 0.25
