from __future__ import annotations

import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genrecall.decoding.decoder import MASKED
from genrecall.decoding.dense_prior import DensePrior, node_means
from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.tables import ConstraintTables, Representation, choose
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


@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40)),
    sids=st.integers(1, 90),
    representation=st.sampled_from(get_args(Representation)),
)
def test_slots_hold_exactly_the_children(
    seed: int, sizes: tuple[int, int, int], sids: int, representation: Representation
) -> None:
    space = random_space(seed, sizes, sids)
    plain = ConstraintTables.build(space)
    tables = ConstraintTables.build(space, representations=(representation,) * 3)
    for level, size in enumerate(sizes):
        parents = torch.arange(len(plain.start[level]) - 1)
        logits = torch.randn(len(parents), size)
        candidates = tables.candidates(level, parents, logits)
        held = candidates > MASKED / 2
        every = parents.unsqueeze(-1).expand_as(candidates)
        node = tables.child(level, every, torch.arange(candidates.shape[-1]).expand_as(candidates))
        assert ((node >= 0) & (node < len(tables.code[level]))).all(), "in range even where there is none"
        code = tables.codes(level, node[held])
        assert torch.equal(candidates[held], logits[every[held], code])
        assert [node[p][held[p]].tolist() for p in parents] == [
            valid_children(plain, level, p) for p in parents.tolist()
        ]
        assert torch.equal(tables.slot(level, every[held], node[held]), held.nonzero()[:, 1])


def test_a_level_is_represented_by_its_size() -> None:
    """Nearly all codes of levels 1 and 2 are in use after each prefix, few of level 3."""
    grid = np.stack(np.meshgrid(range(16), range(512), [7, 9], indexing="ij"), -1).reshape(-1, 3)
    space = SidSpace.of(grid, (16, 512, 512))
    assert choose(space, 1 << 20) == ("dense", "dense", "ranges")
    assert choose(space, 0) == ("ranges", "ranges", "ranges")
    full = SidSpace.of(np.concatenate([grid, [[0, 0, c] for c in range(512)]]), (16, 512, 512))
    assert choose(full, 16 << 20) == ("dense", "dense", "dense"), "one prefix with all codes makes ranges slow for all"
    assert choose(full, 2 << 20) == ("dense", "dense", "bitmap")
    assert choose(full, 300 << 10) == ("dense", "dense", "ranges")
    tables = ConstraintTables.build(full, representations=("dense", "dense", "bitmap"))
    assert tables.nbytes - ConstraintTables.build(full).nbytes < 2 << 20


def test_a_prior_is_refused_tables_whose_slots_are_codes() -> None:
    space = random_space(1, (2, 3, 4), 9)
    prior = DensePrior((2, 2, 2), 4, 32)
    heads = LevelHeads(torch.randn(40, 32), (0, 2, 5), space.level_sizes, "children", prior)
    tables = ConstraintTables.build(space, representations=("dense", "dense", "dense"))
    zeros = torch.zeros((1, 1), dtype=torch.int64)
    with pytest.raises(ValueError, match="ranges alone"):
        heads(0, torch.randn(1, 1, 32), tables, zeros, torch.randn(1, 4))


def test_tables_of_a_file_are_those_that_were_built(tmp_path: Path) -> None:
    space = random_space(2, (5, 6, 7), 80)
    space.save(tmp_path / "file")
    built = ConstraintTables.build(space)
    loaded = ConstraintTables.build(SidSpace.load(tmp_path / "file", space.level_sizes))
    for one, other in zip(built.code + built.start, loaded.code + loaded.start, strict=True):
        assert torch.equal(one, other)
    assert built.width == loaded.width


def test_a_space_without_sids_is_refused() -> None:
    with pytest.raises(ValueError, match="no SID"):
        ConstraintTables.build(SidSpace.of(np.empty((0, 3)), (2, 2, 2)))


def test_a_prior_has_one_normalizer() -> None:
    prior = DensePrior((1, 1, 1), 4, 8)
    with pytest.raises(ValueError, match="normalizer 'level' cannot go with a dense prior"):
        LevelHeads(torch.zeros(6, 8), (0, 2, 4), (2, 2, 2), "level", prior)


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
