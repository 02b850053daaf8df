"""Rewards, experts and what is logged of a rollout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genrecall.config.generator import AlignmentSection, RewardSection
from trainer.alignment import reward
from trainer.alignment.loss import advantages, kl_to, objective
from trainer.alignment.rollout import Samples, figures, roll_out
from trainer.alignment.stage import draw_experts
from trainer.generator.requests import CLICKED, EXPOSED, NOTHING, PURCHASED, Requests

KNOWN = torch.tensor([[3, 3, 5, 7, -1]])
OUTCOME = torch.tensor([[PURCHASED, EXPOSED, CLICKED, EXPOSED, NOTHING]])


def samples(sids: list[int]) -> Samples:
    shape = (1, len(sids), 3)
    return Samples(torch.tensor([sids]), torch.zeros(shape), torch.ones(shape))


def test_the_first_match_wins_and_nothing_is_added() -> None:
    found = reward.kinds(torch.tensor([[3, 5, 7, 0]]), KNOWN, OUTCOME)
    assert [reward.KINDS[kind] for kind in found[0]] == ["purchased", "clicked", "exposed", "valid"]
    section = RewardSection(purchased=2.0)
    assert reward.values(section)[found[0]].tolist() == pytest.approx([2.0, 1.0, 0.5, 0.1])


def test_experts_take_the_place_of_samples_and_the_rest_stays() -> None:
    rollout = roll_out(samples([0, 1, 2, 7]), torch.tensor([[5, -1]]), KNOWN, OUTCOME, RewardSection())
    assert rollout.sid.tolist() == [[5, 1, 2, 7]]
    assert rollout.expert.tolist() == [[True, False, False, False]]
    assert rollout.reward[0].tolist() == pytest.approx([1.0, 0.1, 0.1, 0.5])
    torch.testing.assert_close(rollout.advantage, advantages(rollout.reward))


def test_figures_are_of_the_samples_and_say_who_won() -> None:
    rollout = roll_out(samples([0, 1, 1, 7]), torch.tensor([[5, -1]]), KNOWN, OUTCOME, RewardSection())
    logged = figures(rollout)
    assert logged["share_valid"] == pytest.approx(2 / 3)
    assert logged["share_exposed"] == pytest.approx(1 / 3)
    assert logged["share_clicked"] == 0, "the expert is not a sample"
    assert logged["reward"] == pytest.approx((0.1 + 0.1 + 0.5) / 3)
    assert logged["expert_wins"] == 1
    assert logged["zero_variance"] == 0
    assert logged["distinct"] == 3
    same = roll_out(samples([0, 1, 2, 4]), torch.empty(1, 0, dtype=torch.int64), KNOWN, OUTCOME, RewardSection())
    assert figures(same)["zero_variance"] == 1
    assert (same.advantage == 0).all()


def requests() -> Requests:
    start = np.array([0, 5, 6])
    sid = np.array([3, 3, 5, 7, 8, 9])
    outcome = np.array([PURCHASED, CLICKED, CLICKED, EXPOSED, EXPOSED, EXPOSED], np.int8)
    nobody = np.full((2, 0), -1)
    return Requests(["a"], np.zeros(2, np.int64), np.full((2, 2), -1), nobody, start, sid, sid, outcome)


@given(st.integers(0, 10**6), st.integers(0, 4))
def test_experts_are_distinct_ground_truth_the_bought_and_clicked_first(seed: int, count: int) -> None:
    drawn = draw_experts(*requests().outcomes(np.array([0, 1])), count, np.random.default_rng(seed))
    first = [sid for sid in drawn[0].tolist() if sid >= 0]
    assert len(set(first)) == len(first) == min(count, 4)
    assert set(first[:2]) <= {3, 5}
    assert set(first[2:]) <= {7, 8}
    assert drawn[1].tolist() == [9, *[-1] * (count - 1)][:count]


def test_an_experts_gradient_is_its_advantage_as_if_it_had_been_sampled() -> None:
    log_probs = torch.full((1, 2, 3), -2.0, requires_grad=True)
    old = torch.full((1, 2, 3), -2.0)
    (of,) = torch.autograd.grad(objective(log_probs, old, old, torch.tensor([[1.0, -1.0]]), 0.0).loss, log_probs)
    assert (of[0, :, 0] * -6).tolist() == pytest.approx([1.0, -1.0])


def test_the_kl_estimator_is_never_negative_and_zero_for_the_reference_itself() -> None:
    log_probs = torch.randn(50) - 3
    assert (kl_to(log_probs + torch.randn(50), log_probs) >= 0).all()
    assert (kl_to(log_probs, log_probs) == 0).all()


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"experts \(8\) must be fewer than group \(8\)"):
        AlignmentSection(experts=8)
