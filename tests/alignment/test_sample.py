"""Samples behind one prefix: valid, distributed as the search scores, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.search import Prefix
from genrecall.decoding.tables import ConstraintTables
from tests.decoding.models import offsets, padded_prompts, random_lm, random_space, search
from trainer.alignment.rollout import Samples, sample
from trainer.generator.policy import Policy

SPACE = random_space(3, (3, 4, 5), 12)
MODEL = random_lm(SPACE, seed=1)


def prefix(lengths: list[int]) -> Prefix:
    ids, mask = padded_prompts(lengths, seed=4)
    return Prefix(MODEL.model.embed_tokens(ids), mask)


def draw(group: int, seed: int = 0, lengths: tuple[int, ...] = (5, 2)) -> Samples:
    heads = LevelHeads(MODEL.lm_head.weight, offsets(SPACE), SPACE.level_sizes)
    policy = Policy(MODEL.model, heads, ConstraintTables.build(SPACE), lambda x: x)
    return sample(policy, prefix(list(lengths)), group, torch.Generator().manual_seed(seed))


def test_every_sample_is_a_valid_sid() -> None:
    assert set(draw(50).sid.flatten().tolist()) <= set(range(len(SPACE)))


def test_log_probabilities_are_those_of_the_search() -> None:
    samples = draw(40)
    codes, scores, valid = search(MODEL, SPACE, prefix([5, 2]), len(SPACE))
    assert valid.all()
    for row in range(2):
        of = dict(zip(SPACE.index_of(codes[row]).tolist(), scores[row].tolist(), strict=True))
        drawn = samples.sid[row].tolist()
        found = samples.log_probs[row].sum(-1).tolist()
        assert found == pytest.approx([of[sid] for sid in drawn], abs=1e-4)


def test_sids_come_as_often_as_they_are_probable() -> None:
    samples = draw(4000, lengths=(5,))
    codes, scores, _ = search(MODEL, SPACE, prefix([5]), len(SPACE))
    share = np.bincount(samples.sid[0].numpy(), minlength=len(SPACE)) / 4000
    expected = np.zeros(len(SPACE))
    expected[SPACE.index_of(codes[0])] = np.exp(scores[0])
    np.testing.assert_allclose(share, expected, atol=0.03)


def test_entropy_is_that_of_the_distribution_drawn_from() -> None:
    samples = draw(4000, lengths=(5,))
    assert samples.entropy[0, :, 0].std() < 1e-5, "the first level has one distribution"
    assert samples.entropy.sum(-1).mean().item() == pytest.approx(-samples.log_probs.sum(-1).mean().item(), abs=0.1)


def test_the_same_seed_draws_the_same() -> None:
    assert torch.equal(draw(20, seed=7).sid, draw(20, seed=7).sid)
    assert not torch.equal(draw(20, seed=7).sid, draw(20, seed=8).sid)


def test_padding_does_not_change_a_sample() -> None:
    """The first row of a padded batch draws what it draws alone."""
    padded, alone = draw(30, lengths=(5,)), draw(30, lengths=(5, 9)[:1])
    torch.testing.assert_close(padded.log_probs, alone.log_probs)
