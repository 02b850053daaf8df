"""The evidence as training makes it: the table of words, what is learned of it, and the gates."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrecall.analyzer import Analyzer
from genrecall.bm25_library import bm25s
from genrecall.config.generator import EvidenceSection, MemorySection
from genrecall.decoding import Generator
from genrecall.decoding.config import Gates, read_evidence
from genrecall.decoding.lexical import hash_each, hash_terms, trigrams
from tests.generator.shop import TINY, Train, catalogue, logs, requests
from trainer.generator import memory
from trainer.generator.examples import Examples
from trainer.generator.gates import likeliest_gate, worse
from trainer.generator.lexical import MAX_POSTINGS, Bm25, Words, sid_bm25
from trainer.generator.stages import FEWEST, MOST, TextStage, planned
from trainer.logs import query_targets

Trained = tuple[Path, dict[str, Any]]
ENGLISH = Analyzer("english")


def test_impacts_are_those_of_lucenes_bm25_by_another_library() -> None:
    texts = ["red running shoe", "red lamp", "blue shoe shoe", "a green lamp for the home", "shoe"]
    words = Words.of(ENGLISH, texts)
    document, term = words.take(np.arange(len(texts)))
    ours = Bm25.of(term, document, np.ones(len(term)), len(texts))
    tokens = [sorted(set(ENGLISH(text))) for text in texts]  # a term counts once a text
    reference = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
    reference.index(tokens, show_progress=False)
    for query in ("red shoe", "lamp home", "green"):
        expected = reference.get_scores(ENGLISH(query))
        found = ours.scores(hash_terms(ENGLISH(query)), len(texts)) / (1.2 + 1)  # bm25s leaves the constant out
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_training_query_gives_its_words_to_the_sids_that_it_chose() -> None:
    items, queries = Words.of(ENGLISH, ["red lamp", "blue lamp", "oak chair"]), Words.of(ENGLISH, ["seat", "seat oak"])
    rows = np.array([0, 0, 1])
    chosen = np.array([0, 0, 1]), np.array([1, 1, 1])
    table = sid_bm25(items, rows, queries, chosen, query_weight=3.0, sids=2)
    assert (table.scores(hash_terms(["seat"]), 2) > 0).tolist() == [False, True]
    once = sid_bm25(items, rows, queries, (chosen[0][1:], chosen[1][1:]), query_weight=3.0, sids=2)
    np.testing.assert_array_equal(table.postings.impact, once.postings.impact), "a pair counts once"
    assert (table.scores(hash_each(trigrams("lamp")), 2) > 0).tolist() == [True, False]


def test_a_frequent_term_keeps_the_sids_of_its_greatest_impact() -> None:
    documents = 50
    count = np.arange(1.0, documents + 1)
    bm25 = Bm25.of(np.zeros(documents, np.int64), np.arange(documents), count, documents)
    kept = bm25.pruned(7)
    best = np.sort(np.argsort(-bm25.postings.impact)[:7])
    assert kept.postings.document.tolist() == best.tolist()
    assert bm25.pruned(MAX_POSTINGS) is bm25


def test_what_training_wrote_is_what_is_served(trained_encoder: Trained) -> None:
    folder, metrics = trained_encoder
    generator = Generator.load(folder, catalogue()[2])
    config = json.loads((folder / "config.json").read_text())["genrecall"]["evidence"]
    assert config["analyzer"] == "words-1"
    assert metrics["evidence"]["weights"] == pytest.approx(read_evidence(folder)["weights"].tolist())
    assert config["gates"] == {name: metrics["evidence"]["gates"][name] for name in ("new", "familiar", "user")}
    answer = generator.generate(["zenith blue chair"], k=48)
    assert np.exp(answer.scores).sum() == pytest.approx(1, abs=1e-3)
    assert answer.codes[0, 0].tolist() == [2, 1, 1], "chair, blue, zenith"
    mistyped = generator.generate(["zenit blu chiar"], k=5)
    assert mistyped.codes[0, 0].tolist() == [2, 1, 1]


@pytest.mark.parametrize("text", ["x", "?", "", "qqqq zzzz", "a" * 1000, "รองเท้า สีแดง", "red " * 250])
def test_any_query_is_answered(trained_encoder: Trained, text: str) -> None:
    answer = Generator.load(trained_encoder[0], catalogue()[2]).generate([text], k=10)
    assert answer.valid.all()
    assert np.isfinite(answer.scores).all()
    assert len({tuple(codes) for codes in answer.codes[0].tolist()}) == 10


def test_a_catalogue_without_a_query_starts_from_its_words_and_vectors(train: Train, tmp_path: Path) -> None:
    none = logs()[1].slice(0, 0)
    stage = TINY.encoder.stage.model_copy(update={"steps": 3})
    section = TINY.model_copy(update={"encoder": TINY.encoder.model_copy(update={"stage": stage})})
    metrics = train(tmp_path, section, train=none, dev=none)
    assert metrics["evidence"]["weights"] == pytest.approx([12.0, 0.39, 0.6])
    assert metrics["evidence"]["gates"]["new"] == 0.0, "nothing shows that the decoder helps"
    answer = Generator.load(tmp_path / "generator", catalogue()[2]).generate(["acme green mug"], k=5)
    assert [3, 2, 0] in answer.codes[0].tolist(), "the vectors are those of an encoder of random weights"


def test_a_generator_without_evidence_is_the_decoder_alone(train: Train, tmp_path: Path) -> None:
    stage = TINY.encoder.stage.model_copy(update={"steps": 3})
    encoder = TINY.encoder.model_copy(update={"stage": stage})
    section = TINY.model_copy(update={"encoder": encoder, "evidence": EvidenceSection(enabled=False)})
    assert "evidence" not in train(tmp_path, section)
    assert not (tmp_path / "generator/evidence.safetensors").exists()
    assert Generator.load(tmp_path / "generator", catalogue()[2]).evidence is None


def test_a_gate_opens_as_far_as_the_decoder_knows_better() -> None:
    share = np.ones(4)
    good, bad = np.log([0.5, 0.4, 0.6, 0.5]), np.log([1e-4, 1e-3, 1e-4, 1e-3])
    assert likeliest_gate(good, bad, share) == 0.0
    assert likeliest_gate(bad, good, share) == pytest.approx(0.95)
    mixed = likeliest_gate(
        np.where([True, True, False, False], good, bad), np.where([True, True, False, False], bad, good), share
    )
    assert mixed == pytest.approx(0.5, abs=0.06)
    assert not Gates().open
    rng = np.random.default_rng(0)
    recall = rng.random(100)
    assert not worse(recall, recall)
    assert not worse(recall + rng.normal(0, 0.1, 100), recall + rng.normal(0, 0.1, 100))
    assert worse(recall - 0.1 + rng.normal(0, 0.1, 100), recall)
    assert worse(np.array([0.4]), np.array([0.5]))
    assert Gates(user=0.1).open


def test_the_number_of_steps_follows_the_data() -> None:
    def examples(real: int, synthetic: int) -> Examples:
        texts = real + synthetic
        groups = {"real": (0, real), "synthetic": (real, texts), "title": (texts, texts)}
        return Examples(
            [""] * texts, groups, np.arange(texts + 1), np.zeros(texts, int), np.zeros(texts, int), np.ones(texts)
        )

    section = TINY.encoder.stage.model_copy(update={"steps": "auto", "batch": 100, "evaluate_every": 20})
    stage = TextStage("mixed", "generator.encoder.stage", 2, section, {"real": 0.5, "synthetic": 0.5})
    assert planned(stage, examples(100, 100)).steps == FEWEST
    assert planned(stage, examples(5_000, 100)).steps == 1_000
    assert planned(stage, examples(100, 20_000)).steps == 800
    many = planned(stage, examples(1_000_000, 1_000_000))
    assert many.steps == MOST
    assert many.evaluate_every == 100
    fixed = TextStage("mixed", "generator.encoder.stage", 2, section.model_copy(update={"steps": 7}), {"real": 1.0})
    assert planned(fixed, examples(100, 100)).steps == 7


def test_training_queries_are_remembered_unless_dev_queries_object(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = TINY.encoder.stage.model_copy(update={"steps": 3})
    section = TINY.model_copy(update={"encoder": TINY.encoder.model_copy(update={"stage": stage})})
    about = train(tmp_path / "on", section)["memory"]
    assert about["used"]
    assert (about["queries"], about["dev_queries"]) == (12, 4), "dev queries themselves are not remembered"
    assert about["recall"]["with"]["all"] > about["recall"]["without"]["all"]
    remembers = Generator.load(tmp_path / "on/generator", catalogue()[2])
    for text, knows in (("SHOE blue", True), ("blue shoes", True), ("red shoe", False), ("blue", False), ("", False)):
        without = remembers.request_tokenizer([text], remember=[False])
        same = np.allclose(remembers.generate([text], 5).scores, remembers.search(without, 5).scores, atol=1e-6)
        assert same != knows, text

    monkeypatch.setattr(memory, "worse", lambda one, other: True)
    about = train(tmp_path / "worse", section)["memory"]
    assert (about["used"], about["queries"]) == (False, 12)
    assert Generator.load(tmp_path / "worse/generator", catalogue()[2]).request_tokenizer.memory is None
    off = section.model_copy(update={"memory": MemorySection(enabled=False)})
    assert "memory" not in train(tmp_path / "off", off)
    assert not (tmp_path / "off/generator/memory").exists()


def test_of_logs_only_what_clients_enough_wanted_is_remembered(train: Train, tmp_path: Path) -> None:
    stage = TINY.encoder.stage.model_copy(update={"steps": 3})
    section = TINY.model_copy(
        update={"encoder": TINY.encoder.model_copy(update={"stage": stage}), "memory": MemorySection(least=10)}
    )
    logged = requests(200)
    asked = Counter(logged["text"].to_pylist())
    often = sum(count >= 10 for count in asked.values())
    assert 0 < often < len(asked)
    queries, wanted = query_targets(logged)
    about = train(
        tmp_path,
        section,
        queries=queries,
        train=wanted,
        requests=(logged, requests(40, 1)),
        from_logs=True,
        dev=wanted.slice(0, 0),
    )["memory"]
    assert about["queries"] == often
