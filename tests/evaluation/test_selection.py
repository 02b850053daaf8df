"""Choosing between codebooks, with the real encoder on the shop."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from genrecall.config import Config
from genrecall.config.run import RunSection
from genrecall.evaluation import score_dev
from genrecall.evaluation.protocol import splits
from genrecall.records import Dataset
from tests.evaluation.shop import COLOURS, KINDS, shop

CODES = np.array([[n // 10, n % 4, 0] for n in range(40)])  # kind, colour: exactly the relevant items of a query


@dataclass
class Answer:
    codes: np.ndarray
    scores: np.ndarray
    valid: np.ndarray


@dataclass
class Oracle:
    """Knows the SID of a query, or answers with another kind's."""

    right: bool = True
    generated_for: tuple[str, ...] = ()

    def generate(self, texts: list[str], k: int) -> Answer:
        self.generated_for += tuple(texts)
        words = [text.split() for text in texts]
        kinds = [KINDS.index(kind) if self.right else (KINDS.index(kind) + 1) % 4 for _, kind in words]
        codes = np.array([[[kind, COLOURS.index(w[0]), 0]] for kind, w in zip(kinds, words, strict=True)])
        return Answer(codes, np.zeros((len(texts), 1)), np.ones((len(texts), 1), bool))


@pytest.fixture
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return Config(run=RunSection(cache_dir=tmp_path_factory.getbasetemp() / "cache"))


def score(dataset: Dataset, config: Config, oracle: Oracle) -> dict[str, float]:
    split = splits(dataset, "unseen", 4, 1.0, seed=1)[0]
    return score_dev(dataset, split, config)(oracle, dataset.items["item_id"].to_pylist(), CODES)


def test_a_better_generator_scores_higher_alone_and_fused(config: Config) -> None:
    right, wrong = (score(shop(), config, Oracle(right)) for right in (True, False))
    assert right["R@50"] == 1.0
    assert wrong["R@50"] == 0.0
    assert right["fused nDCG@10"] >= wrong["fused nDCG@10"]
    assert right["union"] == 1.0


def test_only_dev_queries_are_asked(config: Config) -> None:
    dataset, oracle = shop(), Oracle()
    split = splits(dataset, "unseen", 4, 1.0, seed=1)[0]
    score(dataset, config, oracle)
    text = dict(zip(dataset.queries["query_id"].to_pylist(), dataset.queries["text"].to_pylist(), strict=True))
    assert set(oracle.generated_for) == {text[q] for q in split.dev["query_id"].to_pylist()}
    assert not set(oracle.generated_for) & {text[q] for q in split.test["query_id"].to_pylist()}


def test_without_dev_queries_there_is_nothing_to_choose_by(config: Config) -> None:
    dataset = shop()
    split = splits(dataset, "unseen", 4, 1.0, seed=1)[0]
    empty = replace(split, dev=split.dev.slice(0, 0))
    assert score_dev(dataset, empty, config)(Oracle(), dataset.items["item_id"].to_pylist(), CODES) == {}
