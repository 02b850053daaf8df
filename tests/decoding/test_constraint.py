from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genrecall.decoding.constraint import ConstraintTables
from genrecall.decoding.prior import node_means
from genrecall.sid import SidSpace
from tests.decoding.models import random_space


@given(seed=st.integers(0, 10**6), sids=st.integers(1, 60))
def test_following_every_child_lists_exactly_the_valid_sids(seed: int, sids: int) -> None:
    space = random_space(seed, (4, 6, 9), sids)
    tables = ConstraintTables.build(space)
    found = []
    for one in valid_children(tables, 0, 0):
        for two in valid_children(tables, 1, one):
            for three in valid_children(tables, 2, two):
                found.append([int(tables.code[level][node]) for level, node in enumerate((one, two, three))])
                assert found[-1] == space.sids[three].tolist()
    assert found == space.sids.tolist()


def valid_children(tables: ConstraintTables, level: int, parent: int) -> list[int]:
    node, valid = tables.children(level, torch.tensor([parent]))
    assert node.shape == (1, tables.width[level])
    return node[valid].tolist()


def test_a_space_without_sids_is_refused() -> None:
    with pytest.raises(ValueError, match="no SID"):
        ConstraintTables.build(SidSpace.of(np.empty((0, 3)), (2, 2, 2)))


def test_half_a_million_sids_take_seconds() -> None:
    rng = np.random.default_rng(0)
    keys = np.unique(rng.integers(0, 2048 * 1024 * 1024, 500_000))
    sids = np.stack([keys >> 20, (keys >> 10) & 1023, keys & 1023], axis=1).astype(np.int32)
    space = SidSpace((2048, 1024, 1024), sids)
    start = time.perf_counter()
    tables = ConstraintTables.build(space)
    assert time.perf_counter() - start < 10
    assert len(tables.code[2]) == len(space)


@given(seed=st.integers(0, 10**6), items=st.integers(1, 50))
def test_a_node_is_the_mean_of_the_items_under_it(seed: int, items: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, (items, 3)).astype(np.int32)
    vectors = rng.normal(size=(items, 4)).astype(np.float32)
    space = SidSpace.of(codes, (3, 3, 3))
    means, counts = node_means(space, space.index_of(codes), vectors)
    for level in range(3):
        prefixes = np.unique(codes[:, : level + 1], axis=0)
        assert len(means[level]) == len(prefixes)
        for node, prefix in enumerate(prefixes):
            under = (codes[:, : level + 1] == prefix).all(axis=1)
            assert counts[level][node] == under.sum()
            np.testing.assert_allclose(means[level][node], vectors[under].mean(axis=0), atol=1e-5)
