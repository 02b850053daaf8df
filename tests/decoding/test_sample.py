"""Samples behind one prefix: valid, distributed as the search scores, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genrecall.decoding.dense_prior import DensePrior
from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.sample import Mask, Samples, sample
from genrecall.decoding.search import Prefix
from genrecall.decoding.tables import ConstraintTables
from genrecall.sid import SidSpace
from tests.decoding.models import lean, offsets, padded_prompts, random_lm, random_space, search

SPACE = random_space(3, (3, 4, 5), 12)
MODEL = random_lm(SPACE, seed=1)


def prefix(lengths: list[int]) -> Prefix:
    ids, mask = padded_prompts(lengths, seed=4)
    return Prefix(MODEL.model.embed_tokens(ids), mask)


def draw(group: int, mask: Mask = "children", seed: int = 0, lengths: tuple[int, ...] = (5, 2)) -> Samples:
    heads = LevelHeads(MODEL.lm_head.weight, offsets(SPACE), SPACE.level_sizes)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return sample(lean(MODEL), heads, ConstraintTables.build(SPACE), prefix(list(lengths)), group, random, mask)


def test_every_sample_among_children_is_a_valid_sid() -> None:
    assert (SPACE.index_of(draw(50).codes.numpy()) >= 0).all()


def test_log_probabilities_are_those_of_the_search() -> None:
    samples = draw(40)
    codes, scores, valid = search(MODEL, SPACE, prefix([5, 2]), len(SPACE))
    assert valid.all()
    for row in range(2):
        of = dict(zip(SPACE.index_of(codes[row]).tolist(), scores[row].tolist(), strict=True))
        drawn = SPACE.index_of(samples.codes[row].numpy()).tolist()
        found = samples.log_probs[row].sum(-1).tolist()
        assert found == pytest.approx([of[sid] for sid in drawn], abs=1e-4)


def test_sids_come_as_often_as_they_are_probable() -> None:
    samples = draw(4000, lengths=(5,))
    codes, scores, _ = search(MODEL, SPACE, prefix([5]), len(SPACE))
    share = np.bincount(SPACE.index_of(samples.codes[0].numpy()), minlength=len(SPACE)) / 4000
    expected = np.zeros(len(SPACE))
    expected[SPACE.index_of(codes[0])] = np.exp(scores[0])
    np.testing.assert_allclose(share, expected, atol=0.03)


def test_entropy_is_that_of_the_distribution_drawn_from() -> None:
    samples = draw(4000, lengths=(5,))
    assert samples.entropy[0, :, 0].std() < 1e-5, "the first level has one distribution"
    assert samples.entropy.sum(-1).mean().item() == pytest.approx(-samples.log_probs.sum(-1).mean().item(), abs=0.1)


def test_a_sample_masked_by_level_alone_can_be_invalid() -> None:
    samples = draw(200, "level")
    assert (samples.codes < torch.tensor(SPACE.level_sizes)).all()
    valid = SPACE.index_of(samples.codes.numpy()) >= 0
    assert 0 < valid.mean() < 1


def test_the_same_seed_draws_the_same() -> None:
    assert torch.equal(draw(20, seed=7).codes, draw(20, seed=7).codes)
    assert not torch.equal(draw(20, seed=7).codes, draw(20, seed=8).codes)


def test_padding_does_not_change_a_sample() -> None:
    """The first row of a padded batch draws what it draws alone."""
    padded, alone = draw(30, lengths=(5,)), draw(30, lengths=(5, 9)[:1])
    torch.testing.assert_close(padded.log_probs, alone.log_probs)


def test_a_prior_refuses_what_it_cannot_score() -> None:
    space = SidSpace.of(np.array([[0, 0, 0], [1, 0, 1]]), (3, 4, 5))
    prior = DensePrior((2, 2, 2), 4, 32)
    heads = LevelHeads(MODEL.lm_head.weight, offsets(SPACE), SPACE.level_sizes, "children", prior)
    with pytest.raises(ValueError, match="use 'children'"):
        sample(lean(MODEL), heads, ConstraintTables.build(space), prefix([3]), 2, torch.Generator(), "level")
