"""Terms of texts in any script, and the look-up of terms."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.analyzer import CONTINUED, Analyzer, joined, language_of, words_of
from genrecall.decoding.lexical import MAX_TERMS, Lexicon, hash_each, hash_query, hash_terms, trigrams

ENGLISH = Analyzer("english")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Running SHOES", ["run", "shoe"]),
        ("10mm screws, 10 mm screw", ["10", "mm", "10mm", "screw", "10", "mm", "screw"]),
        ("WH1000XM4", ["wh", "1000", "xm", "4", "wh1000xm4"]),
        ('3.5" 3,5 and 1,000', ["3.5", "3.5", "and", "1000"]),
        ("crème café Ångström", ["creme", "cafe", "angstrom"]),
        ("लाल जूते", ["लाल", "जूते"]),
        ("أحذية", ["أحذية"]),
        ("รองเท้า", ["รอ", "อง", "งเ", "เท้", "ท้า"]),
        ("红色跑鞋 Nike", ["红色", "色跑", "跑鞋", "nike"]),
        ("ランニング", ["ラン", "ンニ", "ニン", "ング"]),
        ("운동화", ["운동", "동화"]),
        ("日", ["日"]),
        ("красные туфли", ["красные", "туфли"]),
        ("", []),
        ("!? 🧦 --", []),
        ("x", ["x"]),
    ],
)
def test_terms_of_any_script(text: str, terms: list[str]) -> None:
    assert ENGLISH(text) == terms


def test_other_languages_have_their_own_stemmer() -> None:
    assert Analyzer("russian")("красные")[0] == Analyzer("russian")("красный")[0]
    with pytest.raises(ValueError, match="'klingon' has no Snowball stemmer"):
        Analyzer("klingon")


@given(st.text(max_size=200))
def test_any_text_is_analyzed_the_same_in_either_case(text: str) -> None:
    terms = ENGLISH(text)
    assert all(terms), "no empty term"
    if text.isascii():
        assert ENGLISH(text.upper()) == terms


def lexicon(texts: list[str], queries: list[str], grams: Sequence[str] = ()) -> Lexicon:
    term = np.unique(np.concatenate([hash_each(grams), *(hash_terms(ENGLISH(text)) for text in texts)]))
    start = np.concatenate([[0], np.cumsum(np.arange(1, len(term) + 1)), [0]])
    query = np.sort(
        np.concatenate([np.empty(0, np.int64), *(hash_query(hash_terms(ENGLISH(query))) for query in queries)])
    )
    return Lexicon(ENGLISH, term, start, query)


def test_known_terms_are_found_once_and_training_queries_recognized_in_any_order() -> None:
    looked_up = lexicon(["red running shoes"], ["red shoe"])
    rows, _, familiar = looked_up("Shoes red red unknownword")
    assert len(rows) == 2
    assert not familiar, "another word makes another query"
    assert looked_up("shoes, RED").familiar
    for nothing in ("", "?", "a" * 1000):
        rows, _, familiar = looked_up(nothing)
        assert len(rows) == 0
        assert not familiar


def test_of_a_long_query_the_rarest_terms_count() -> None:
    words = [f"word{n:03}x" for n in range(100)]
    looked_up = lexicon([" ".join(words)], ["word000x"])
    rows = looked_up(" ".join(words)).rows
    assert len(rows) == MAX_TERMS
    size = np.diff(looked_up.start)[:-1]
    assert size[rows].max() <= np.sort(size)[MAX_TERMS]


def test_an_unknown_word_counts_by_its_trigrams_but_a_number_does_not() -> None:
    looked_up = lexicon(["red running shoes"], [], trigrams("run"))
    known = looked_up("running").rows
    mistyped = looked_up("runn").rows
    assert len(known) == 1, "a known word needs no trigram"
    assert 1 <= len(mistyped) < len(trigrams("runn")), "those that the table has"
    assert len(looked_up("1001").rows) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Kid's T-shirt, 2 pcs", ["kid's", "t-shirt", "2", "pcs"]),
        ("लाल जूते", ["लाल", "जूते"]),
        ("東京西川 枕 高さ調節", ["東京西川", "枕", "高", "さ", "調節"]),
        ("红色运动鞋", ["红色运", "动鞋"]),
        ("เสื้อยืดผู้ชาย", ["เสื้อ", "ยืดผู้", "ชาย"]),
        ("ÉTÉ à la mer", ["été", "à", "la", "mer"]),
    ],
)
def test_words_keep_their_marks_and_long_runs_are_cut(text: str, words: list[str]) -> None:
    found = words_of(text)
    assert [word.removeprefix(CONTINUED) for word in found] == words
    assert joined(found) == " ".join(re.findall(r"[^\s,]+", text.lower()))


@given(st.text(max_size=40))
def test_no_text_breaks_the_words(text: str) -> None:
    for word in words_of(text):
        assert word.strip()
        assert " " not in word


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (["Bettwäsche mit Reißverschluss für das Bett", "Topf aus Stahl und Glas"], "german"),
        (["Poêle en fonte avec couvercle pour le four"], "french"),
        (["Красные туфли женские", "Nike Air"], "russian"),
        (["Red shoes with laces for men"], "english"),
        (["Tefal", "ASUS X515"], "english"),
        (["红色运动鞋"], "english"),
        ([], "english"),
    ],
)
def test_language_is_told_by_small_words_and_letters(texts: list[str], language: str) -> None:
    assert language_of(texts) == language
