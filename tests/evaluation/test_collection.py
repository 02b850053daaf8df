"""The controls, on the shop with vectors made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from genrecall.config import Config
from genrecall.config.adapter import AdapterSection
from genrecall.config.evaluation import EvaluationSection
from genrecall.evaluation import channels_offline as offline
from genrecall.evaluation.channels_offline import Bm25
from genrecall.evaluation.collection import Collection, SyntheticQueries
from genrecall.evaluation.metrics import Evaluator
from genrecall.evaluation.protocol import known_items, past_items, splits
from genrecall.evaluation.results import BOOSTED, LINEAR, PLACEBO, ROCCHIO
from genrecall.records import Split
from tests.evaluation.shop import COLOURS, KINDS, shop

ADAPTER = AdapterSection(hidden=16, batch=16, random_items=20, max_steps=20, check_every=10)
CONFIG = Config(evaluation=EvaluationSection(adapter=ADAPTER, tune_on=["R@3"]))
NO_QUERIES = SyntheticQueries([], np.empty(0, np.int64))


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def collection(noise: float, titles: bool = True) -> Collection:
    """Item and query vectors say kind and colour, up to noise; without titles the text says nothing."""
    rng, dataset = np.random.default_rng(0), shop()
    if not titles:
        names = pa.array([f"product {n}" for n in range(40)])
        dataset = replace(dataset, items=dataset.items.set_column(1, "title", names))
    one_hot = np.eye(8)
    items = np.array([one_hot[n // 10] + one_hot[4 + n % 4] for n in range(40)]) + rng.normal(0, noise, (40, 8))
    words = [text.split() for text in dataset.queries["text"].to_pylist()]
    queries = np.array([one_hot[KINDS.index(kind)] + one_hot[4 + COLOURS.index(colour)] for colour, kind in words])
    text = Bm25.of(dataset.items, ["title"], CONFIG.evaluation.bm25)
    return Collection(
        CONFIG, dataset, dataset.items["item_id"].to_pylist(), unit(items), unit(queries), NO_QUERIES, text
    )


def split_of(regime: str) -> Split:
    return splits(shop(), regime, 4, 1.0, seed=1)[0]


def recall(made: Collection, split: Split, name: str, part: pa.Table) -> float:
    """R@3: a query has two or three relevant items, among ten of its kind."""
    run = made.controls(split, made.vectors)[name](made.dataset.queries, 40)
    return float(Evaluator(part, 1.0, ("R@3",)).values(run)["R@3"].mean())


@pytest.mark.parametrize(("noise", "titles"), [(0.0, False), (5.0, True)])
def test_the_linear_control_takes_what_dev_says_is_good(noise: float, titles: bool) -> None:
    """Vectors where the text says nothing, text where the vectors say nothing: of both it must find all."""
    split = split_of("unseen")
    assert recall(collection(noise, titles), split, LINEAR, split.dev) == 1.0


def test_the_linear_control_never_sees_test_judgments() -> None:
    split = split_of("unseen")
    turned = split.test.set_column(2, split.test.schema.field("grade"), pa.array([0.0] * len(split.test), pa.float32()))
    one, other = (
        collection(0.5).controls(s, collection(0.5).vectors)[LINEAR](shop().queries, 10)
        for s in (split, replace(split, test=turned))
    )
    for query, ranked in one.items():
        assert other[query].item_ids.tolist() == ranked.item_ids.tolist()


def test_the_linear_control_knows_the_words_of_training_queries() -> None:
    split = split_of("unseen")
    words_alone = CONFIG.model_copy(update={"evaluation": EvaluationSection(linear_weights=[0.0])})
    made = replace(collection(5.0, titles=False), config=words_alone)
    run = made.controls(split, made.vectors)[LINEAR](made.dataset.queries, 40)
    seen = split.train["query_id"].to_pylist()[0]
    wanted = {r["item_id"] for r in split.train.to_pylist() if r["query_id"] == seen and r["grade"] == 1.0}
    assert set(run[seen].item_ids[: len(wanted)].tolist()) == wanted  # no title has a word of it


def test_rocchio_moves_a_recurring_query_to_the_items_known_to_be_wanted() -> None:
    made, split = collection(1.0), split_of("recurring")
    known = known_items(split)
    run = made.controls(split, made.vectors)[ROCCHIO](made.dataset.queries, 40)
    for n, (query, text) in enumerate(
        zip(made.dataset.queries["query_id"].to_pylist(), made.dataset.queries["text"].to_pylist(), strict=True)
    ):
        vector = made.vectors([text])[0]
        rows = [made.item_ids.index(item) for item in known.get(query, ())]
        if rows:
            vector = vector + made.item_vectors[rows].mean(axis=0)
        scores = made.item_vectors @ (vector / np.linalg.norm(vector))
        np.testing.assert_allclose(run[query].scores, np.sort(scores)[::-1], atol=1e-6, err_msg=str(n))
    assert any(known.values())


def test_boosting_raises_what_was_wanted_before_where_it_counts_again() -> None:
    made, recurring = collection(1.0), split_of("recurring")
    assert BOOSTED not in made.controls(recurring, made.vectors), "known items would be taken out of its lists"
    split = replace(recurring, returning=True, dev=recurring.train, test=recurring.train)
    run = made.controls(split, made.vectors)[BOOSTED](made.dataset.queries, 40)
    found = Evaluator(split.train, 1.0)
    assert found.values(run)["R@10"].mean() == 1.0
    (query, items), *_ = past_items(split).items()
    plain = offline.bm25(made.item_ids, made.text)(made.dataset.queries, 40)[query]
    rest = [item for item in run[query].item_ids.tolist() if item not in items]
    assert rest == [item for item in plain.item_ids.tolist() if item not in items][: len(rest)], (
        "the others as they were"
    )


def test_without_known_items_there_is_no_rocchio() -> None:
    made = collection(1.0)
    assert set(made.controls(split_of("unseen"), made.vectors)) == {LINEAR, PLACEBO}


def test_the_placebo_reads_words_and_not_the_encoders_vectors() -> None:
    split = split_of("unseen")
    assert recall(collection(50.0), split, PLACEBO, split.test) == 1.0
    assert recall(collection(0.0, titles=False), split, PLACEBO, split.test) < 0.9
