"""The generated shop: reproducible, honest about relevance, clean in its splits and logs."""

import gzip
import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrecall.config.data import DataSection
from genrecall.data.events import logged_queries
from genrecall.data.readers import read_dataset
from genrecall.data.rejects import Rejects
from genrecall.data.sources import resolve_sources
from genrecall.data.splits import query_groups, read_split
from genrecall.errors import UserError
from genrecall.progress import no_progress
from simulation import relevance, synthesize
from simulation.click_model import Bm25, sample_sessions
from simulation.config import ClickModel, ShopSection
from simulation.generated_shop import sample_items
from simulation.queries import Queries, make_queries
from simulation.relevance import COMPLEMENT, EXACT, IRRELEVANT, SUBSTITUTE, Judgments, RelevanceLabeler
from simulation.shop import ATTRIBUTES, BLOCK, Items, Shop
from simulation.vocabulary import KINDS

SECTION = ShopSection(items=12_000, seed=5, queries=150, sessions=1500)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "shop"
    synthesize(SECTION, out)
    return out


@pytest.fixture(scope="module")
def judged() -> tuple[Shop, Queries, Judgments, Items]:
    shop = Shop(SECTION.items, SECTION.seed)
    sample = sample_items(shop, 600, no_progress)
    queries = make_queries(shop, sample, SECTION, no_progress)
    labeler = RelevanceLabeler(shop, queries, SECTION)
    blocks = list(shop.blocks())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relevance, "PENDING", 500)  # candidates are dropped on the way, as in a shop of millions
        for block in blocks:
            labeler.add(block)
    everything = Items(*(np.concatenate([getattr(b, name) for b in blocks]) for name in Items.__dataclass_fields__))
    return shop, queries, labeler.judgments(sample), everything


def attributes_missed(queries: Queries, query: int, items: Items, row: int) -> int:
    missed = 0
    for name in ATTRIBUTES:
        required = queries.required[name][query]
        missed += required >= 0 and required not in np.atleast_1d(getattr(items, name)[row]).tolist()
    return missed


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    small = ShopSection(items=1000, seed=1, queries=40, sessions=100)
    first, again = synthesize(small, tmp_path / "a" / "shop"), synthesize(small, tmp_path / "b" / "shop")
    synthesize(small.model_copy(update={"seed": 2}), tmp_path / "c" / "shop")
    assert first == again
    names = sorted(path.name for path in (tmp_path / "a" / "shop").iterdir())
    assert len(names) == 7
    for name in names:
        bytes_of = [(tmp_path / part / "shop" / name).read_bytes() for part in "abc"]
        assert bytes_of[0] == bytes_of[1]
        assert bytes_of[0] != bytes_of[2]


def test_a_block_can_be_made_again_without_the_others() -> None:
    shop = Shop(SECTION.items, SECTION.seed)
    second = list(shop.blocks())[1]
    again = Shop(SECTION.items, SECTION.seed).block(BLOCK, SECTION.items - BLOCK)
    for name in Items.__dataclass_fields__:
        assert (getattr(second, name) == getattr(again, name)).all()


def test_folder_opens_without_mapping_or_rejects_and_says_it_is_simulated(folder: Path) -> None:
    data = read_dataset(DataSection(folder=folder, max_reject_share=0))
    assert data.simulated
    assert (len(data.items), len(data.queries)) == (12_000, 150)
    about = json.loads((folder / "dataset.json").read_text())["about"]
    assert about["settings"]["seed"] == 5
    assert sum(about["queries_by_way"].values()) == 150
    assert (about["items"], about["queries"], about["judgments"]) == (12_000, 150, len(data.judgments))
    assert "simulated" in about["note"]


def test_every_judgment_follows_from_the_true_attributes(judged: tuple[Shop, Queries, Judgments, Items]) -> None:
    shop, queries, found, items = judged
    for query, item, label in zip(found.query.tolist(), found.item.tolist(), found.label.tolist(), strict=True):
        kind = items.kind[item]
        if kind != queries.kind[query]:
            same_category = shop.category_of[kind] == shop.category_of[queries.kind[query]]
            assert label == (COMPLEMENT if same_category else IRRELEVANT)
        else:
            missed = attributes_missed(queries, query, items, item)
            assert label == {0: EXACT, 1: SUBSTITUTE}.get(missed, IRRELEVANT)
    pairs = list(zip(found.query.tolist(), found.item.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


def test_all_that_fits_is_judged_up_to_the_limit_the_most_popular_first(
    judged: tuple[Shop, Queries, Judgments, Items],
) -> None:
    _, queries, found, items = judged
    beyond = 0
    for query in range(len(queries)):
        rows = np.flatnonzero(items.kind == queries.kind[query])
        fit = [row for row in rows.tolist() if not attributes_missed(queries, query, items, row)]
        assert found.fitting[query] == len(fit)
        exact = set(found.item[(found.query == query) & (found.label == EXACT)].tolist())
        popular = sorted(fit, key=lambda row: (-items.popularity[row], row))[: SECTION.max_exact]
        assert set(popular) <= exact
        assert exact <= set(fit)
        beyond += len(fit) > SECTION.max_exact
    assert beyond, "no query tested the limit"


def test_queries_ask_in_every_way_and_words_that_shoppers_use_are_not_in_titles(folder: Path) -> None:
    shop = Shop(SECTION.items, SECTION.seed)
    queries = make_queries(shop, sample_items(shop, 600, no_progress), SECTION, no_progress)
    assert set(queries.way) == {"head", "attributes", "brand", "synonym", "use"}
    nouns = {kind.noun for kind in KINDS}
    titles = " | ".join(item["title"].lower() for item in lines(folder / "items.jsonl.gz"))
    own_words = {word for kind in KINDS for word in kind.synonyms if not any(word in noun for noun in nouns)}
    said = {word for word in own_words if f" {word} " in titles}
    assert len(own_words) > 150
    assert not said


def test_titles_vary_and_are_rarely_misspelt(folder: Path) -> None:
    items = lines(folder / "items.jsonl.gz")
    assert len({item["title"] for item in items}) > 0.99 * len(items)
    nouns = [kind.noun.lower() for kind in KINDS]
    without_noun = sum(not any(noun in item["title"].lower() for noun in nouns) for item in items)
    assert 0 < without_noun < 0.01 * len(items)
    assert 0 < sum(not item["category"] for item in items) < 0.04 * len(items)


def test_splits_share_no_query_and_logs_are_of_training_queries(folder: Path) -> None:
    section = DataSection(folder=folder)
    data = read_dataset(section)
    split = read_split(data, folder / "splits.json")
    text = dict(zip(data.queries["query_id"].to_pylist(), data.queries["text"].to_pylist(), strict=True))
    number = dict(zip(text, query_groups(list(text.values())).tolist(), strict=True))
    parts = [{number[query] for query in part["query_id"].to_pylist()} for part in (split.train, split.dev, split.test)]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    logged = logged_queries(resolve_sources(section)[0], Rejects())
    searched = {text for batch in logged for text in batch["text"].to_pylist()}
    assert searched <= {text[query] for query in split.train["query_id"].to_pylist()}


def test_clicks_are_on_items_shown_at_their_position(folder: Path) -> None:
    about = json.loads((folder / "dataset.json").read_text())["about"]
    searches = {row["query_id"]: row for row in lines(folder / "ubi_queries.jsonl.gz")}
    events = lines(folder / "ubi_events.jsonl.gz")
    assert len(searches) == about["sessions"] == SECTION.sessions
    counts = Counter(event["action_name"] for event in events)
    assert counts == {"click": about["clicks"], "purchase": about["purchases"]}
    clicked = set()
    for event in events:
        attributes, search = event["event_attributes"], searches[event["query_id"]]
        item, position = attributes["object"]["object_id"], attributes["position"]["ordinal"]
        assert search["query_response_hit_ids"][position - 1] == item
        assert event["timestamp"] > search["timestamp"]
        assert event["client_id"] == search["client_id"]
        if event["action_name"] == "click":
            clicked.add((event["query_id"], item))
        else:
            assert (event["query_id"], item) in clicked


def test_click_rates_are_those_of_the_model() -> None:
    model, count = ClickModel(slate=4, noise=0.0), 40_000
    label = np.array([EXACT, SUBSTITUTE, COMPLEMENT, IRRELEVANT])
    slates, clicked, bought = sample_sessions(
        np.array([4.0, 3.0, 2.0, 1.0]), label, count, model, np.random.default_rng(0)
    )
    assert (slates == np.arange(4)).all(), "without noise the search is BM25 alone"
    expected = np.array(model.click) / np.arange(1, 5)
    assert clicked.mean(axis=0) == pytest.approx(expected, abs=0.01)
    assert bought.mean(axis=0) == pytest.approx(expected * np.array(model.purchase), abs=0.01)
    assert not (bought & ~clicked).any()


def test_noise_makes_the_search_plackett_luce() -> None:
    model, scores = ClickModel(slate=1, noise=1.0), np.log([0.5, 0.3, 0.2])
    slates, *_ = sample_sessions(scores, np.zeros(3, dtype=int), 40_000, model, np.random.default_rng(0))
    assert np.bincount(slates[:, 0]) / 40_000 == pytest.approx([0.5, 0.3, 0.2], abs=0.01)


def test_bm25_prefers_rare_words_and_short_titles() -> None:
    titles = ["red pan", "red pot", "red wok with a very long description of everything", "red lid"]
    bm25 = Bm25(dict(enumerate(titles)))
    pan, pot, wok, _ = bm25.scores("red pan wok", range(4))
    assert pan > pot > 0
    assert pan > wok > pot


def test_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "logs":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(ShopSection(items=1000, queries=20, sessions=50), tmp_path / "shop", stop)
    assert list(tmp_path.iterdir()) == []


def test_memory_of_judging_does_not_grow_with_the_shop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relevance, "PENDING", 4096)

    def peak(blocks: int) -> int:
        section = ShopSection(items=blocks * BLOCK, queries=100)
        shop = Shop(section.items, section.seed)
        queries = make_queries(shop, sample_items(shop, 300, no_progress), section, no_progress)
        tracemalloc.start()
        labeler = RelevanceLabeler(shop, queries, section)
        for block in shop.blocks():
            labeler.add(block)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)  # modules and caches that the first use loads are not the shop's
    assert peak(20) < 1.5 * peak(4)


def test_folder_in_use_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="is not empty"):
        synthesize(SECTION, folder)
