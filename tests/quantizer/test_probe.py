"""The probe of codes: recall of the SIDs nearest to the query."""

import numpy as np
import pytest

from tests.quantizer.shop import unit
from trainer.quantizer import probe


def test_recall_counts_relevant_items_in_the_best_sids_up_to_each_cutoff() -> None:
    vectors = unit(np.array([[1, 0], [1, 0.1], [0.1, 1], [0, 1], [-1, 0]], dtype=np.float32))
    codes = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [2, 0, 0]])
    queries = unit(np.array([[1, 0.05], [0, 1]], dtype=np.float32))
    relevant = (np.array([0, 0, 1]), np.array([0, 4, 2]))
    report = probe(codes, vectors, queries, relevant, beam=1, cutoffs=(1, 2))
    assert report == {"R@1": pytest.approx((0.5 + 1) / 2), "R@2": pytest.approx((0.5 + 1) / 2), "items": 2.0}
    wide = probe(codes, vectors, queries, relevant, beam=3, cutoffs=(5,))
    assert wide == {"R@5": 1.0, "items": 5.0}


def test_one_item_a_sid_is_the_ranking_by_cosine() -> None:
    rng = np.random.default_rng(0)
    vectors, queries = unit(rng.normal(size=(100, 8))), unit(rng.normal(size=(10, 8)))
    nearest = np.argsort(-queries @ vectors.T, axis=1)[:, :5]
    relevant = (np.repeat(np.arange(10), 5), nearest.reshape(-1))
    codes = np.stack([np.zeros(100), np.zeros(100), np.arange(100)], axis=1).astype(int)
    assert probe(codes, vectors, queries, relevant, beam=5, cutoffs=(5,))["R@5"] == 1.0
