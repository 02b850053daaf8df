from collections.abc import Iterator

import numpy as np
import pytest
import torch

from genrecall.config.adapter import AdapterSection
from genrecall.decoding.adapter import QueryAdapter
from genrecall.evaluation.channels_offline import knn
from tests.evaluation.shop import shop
from trainer.generator.adapter import Positives, _other_answers, dev_recall, train_adapter


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small only lose by being shared between threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SMALL = AdapterSection(hidden=32, batch=16, random_items=20, max_steps=40, check_every=10)
NONE = Positives(np.empty(0, np.int64), np.empty(0, np.int64))


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rotated(queries: int, seed: int) -> tuple[np.ndarray, np.ndarray, Positives]:
    """Items, and queries that each point to one item after a rotation that the adapter has to learn."""
    items = unit(200, 16, seed)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(16, 16)))
    rows = np.arange(queries) % len(items)
    return items, (items[rows] @ rotation).astype(np.float32), Positives(np.arange(queries), rows)


def test_an_untrained_adapter_leaves_knn_unchanged() -> None:
    dataset, items, queries = shop(), unit(40, 8, 0), unit(16, 8, 1)
    row = {text: n for n, text in enumerate(dataset.queries["text"].to_pylist())}
    adapter = QueryAdapter(8, 16)
    ids = dataset.items["item_id"].to_pylist()
    plain = knn(ids, items, lambda texts: queries[[row[t] for t in texts]])(dataset.queries, 40)
    adapted = knn(ids, items, lambda texts: adapter.apply_to(queries[[row[t] for t in texts]]))(dataset.queries, 40)
    for query, expected in plain.items():
        assert adapted[query].item_ids.tolist() == expected.item_ids.tolist()
        np.testing.assert_allclose(adapted[query].scores, expected.scores, atol=1e-6)


def test_vectors_keep_unit_norm() -> None:
    adapter = QueryAdapter(8, 16)
    torch.nn.init.normal_(adapter.outer.weight)
    np.testing.assert_allclose(np.linalg.norm(adapter.apply_to(unit(5, 8, 2)), axis=1), 1, atol=1e-6)


def test_training_finds_what_the_pairs_teach() -> None:
    items, queries, pairs = rotated(200, 3)
    dev = Positives(pairs.query[:100], pairs.item[:100])
    train = Positives(pairs.query[100:], pairs.item[100:])
    before = dev_recall(QueryAdapter(16, 32), dev, items, queries)
    adapter = train_adapter([train], dev, items, queries, SMALL.model_copy(update={"max_steps": 200}), seed=0)
    assert dev_recall(adapter, dev, items, queries) > before + 0.2


def test_the_same_seed_trains_the_same_adapter() -> None:
    items, queries, pairs = rotated(60, 4)
    one, other = (train_adapter([pairs], pairs, items, queries, SMALL, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.apply_to(queries), other.apply_to(queries))


def test_training_that_only_harms_dev_is_undone() -> None:
    items = unit(200, 16, 6)
    dev = Positives(np.arange(50), np.arange(50))  # dev queries are their items: nothing can be better
    wrong = Positives(np.arange(50), np.arange(50)[::-1].copy())
    adapter = train_adapter([wrong], dev, items, items[:50], SMALL, seed=0)
    np.testing.assert_allclose(adapter.apply_to(items), items, atol=1e-6)


def test_without_pairs_the_adapter_stays_untrained() -> None:
    items = unit(30, 8, 7)
    np.testing.assert_allclose(train_adapter([NONE], NONE, items, items, SMALL, 0).apply_to(items), items, atol=1e-6)


def test_dev_recall_ignores_known_items() -> None:
    items = np.eye(60, 60, dtype=np.float32)
    query = items[:1] + np.linspace(0.5, 0, 60, dtype=np.float32)
    dev = Positives(np.array([0]), np.array([50]))  # ranked 51st
    plain = QueryAdapter(60, 4)
    assert dev_recall(plain, dev, items, query) == 0.0
    assert dev_recall(plain, dev, items, query, {0: np.array([0])}) == 1.0


def test_other_answers_of_a_query_are_no_negatives() -> None:
    query, item = torch.tensor([0, 0, 1]), torch.tensor([5, 7, 7])
    candidates = torch.tensor([5, 6, 7])
    masked = _other_answers(query, item, torch.tensor([0, 1, 0]), candidates, torch.tensor([0, 2, 2]), 2, 9)
    assert masked.tolist() == [[False, False, True], [False, False, False], [True, False, False]]


@pytest.mark.parametrize("sources", [2, 3])
def test_sources_of_unequal_size_are_all_learned_from(sources: int) -> None:
    items, queries, pairs = rotated(200, 8)
    parts = [Positives(pairs.query[:1], pairs.item[:1])] * (sources - 1) + [Positives(pairs.query[1:], pairs.item[1:])]
    adapter = train_adapter(parts, NONE, items, queries, SMALL, seed=0)
    assert not np.allclose(adapter.apply_to(queries), queries, atol=1e-3)
