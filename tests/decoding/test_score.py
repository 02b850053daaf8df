"""Teacher-forced log-probabilities of given SIDs: what a search that keeps every beam would say of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.score import SidTree, score
from genrecall.decoding.search import DecodeState, Prefix, beam_search
from genrecall.decoding.tables import ConstraintTables, Representation
from tests.decoding.models import lean, offsets, padded_prompts, random_lm, random_space

SPACE = random_space(5, (4, 6, 8), 60)
MODEL = random_lm(SPACE, 5)
TABLES = ConstraintTables.build(SPACE)


def prefix(length: int) -> Prefix:
    ids, mask = padded_prompts([length], length)
    return Prefix(MODEL.model.embed_tokens(ids), mask)


@pytest.mark.parametrize("normalizer", ["children", "level", "vocabulary"])
@given(st.lists(st.integers(0, len(SPACE) - 1), min_size=1, max_size=40), st.integers(1, 6))
@settings(max_examples=15)
def test_a_sid_scores_what_an_exhaustive_search_says(normalizer: str, rows: list[int], length: int) -> None:
    decoder, heads = lean(MODEL), LevelHeads(MODEL.lm_head.weight, offsets(SPACE), SPACE.level_sizes, normalizer)
    with torch.no_grad():
        beams = beam_search(decoder, heads, TABLES, prefix(length), len(SPACE))
        wanted = SidTree.of(TABLES.paths_of(np.array(rows)))
        found = score(heads, TABLES, DecodeState.prefill(decoder, prefix(length)), None, wanted)
    expected = dict(zip(beams.sid[0].tolist(), beams.scores[0].tolist(), strict=True))
    np.testing.assert_allclose(found.numpy(), [expected[row] for row in rows], atol=1e-4)


@pytest.mark.parametrize("representation", ["dense", "bitmap"])
def test_a_sid_scores_the_same_whatever_represents_its_level(representation: Representation) -> None:
    heads = LevelHeads(MODEL.lm_head.weight, offsets(SPACE), SPACE.level_sizes)
    wanted = SidTree.of(TABLES.paths_of(np.array([3, 0, 17, 41])))
    masked = ConstraintTables.build(SPACE, representations=(representation,) * 3)
    with torch.no_grad():
        root = DecodeState.prefill(lean(MODEL), prefix(4))
        one, other = (score(heads, tables, root, None, wanted) for tables in (TABLES, masked))
    torch.testing.assert_close(one, other)


def test_paths_on_the_host_are_those_on_the_device() -> None:
    rows = np.arange(len(SPACE))[::-1]
    assert (TABLES.paths_of(rows) == TABLES.paths.numpy()[::-1]).all()
