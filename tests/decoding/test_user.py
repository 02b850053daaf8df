"""Users in the prefix: resolved, selected, and of no effect where nothing is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genrecall.decoding.config import GeneratorConfig
from genrecall.decoding.request_tokenizer import RequestTokenizer, user_tokens
from genrecall.decoding.user import User, UserConfig
from genrecall.decoding.user_prefix import UserPrefix, Users, select
from tests.decoding.models import random_space

SPACE = random_space(3, (3, 4, 5), 12)
LAST = len(SPACE) - 1
CONFIG = UserConfig(("gender=f", "gender=m", "age_band=25-34"), recent=3, related=0)


def request_tokenizer(kind: str, related: int = 0) -> RequestTokenizer:
    """One whose texts are always the tokens 7 and 8."""
    config = GeneratorConfig(
        kind, SPACE.level_sizes, 100, "children", False, 32, "", False, replace(CONFIG, related=related)
    )
    return RequestTokenizer(lambda texts: [[7, 8] for _ in texts], config, SPACE)


@pytest.mark.parametrize(("related", "kept"), [(0, [4, 1, 2]), (3, [4, 1, 2, 9])])
def test_names_and_sids_are_resolved_and_unknown_ones_left_out(related: int, kept: list[int]) -> None:
    stranger = np.array([[2, 3, 4]])
    assert SPACE.index_of(stranger)[0] < 0
    past = np.concatenate([SPACE.sids[4:5], stranger, SPACE.sids[[1, 2, 9]]])
    asked = [User("m", "25-34", past), None, User("x", "99+")]
    prompts = request_tokenizer("encoder", related)(["a"] * 3, asked)
    assert [p.profile.tolist() for p in prompts] == [[1, 2], [-1, -1], [-1, -1]]
    assert [p.recent.tolist() for p in prompts] == [kept, [], []], "the newest `recent`, or all where a search decides"
    assert [p.known for p in prompts] == [True, False, False]


def test_an_lm_reads_the_user_in_its_prompt_and_an_encoder_beside_it() -> None:
    asked = [User("m", "", SPACE.sids[[4, 1]]), None]
    lm, encoder = request_tokenizer("lm"), request_tokenizer("encoder")
    first, second = lm(["a", "b"], asked)
    read = lm.batch([first, second])
    before = [*(SPACE.sids[1] + np.array(lm.config.offsets)), *(SPACE.sids[4] + np.array(lm.config.offsets))]
    assert read.ids.tolist() == [[*before, lm.config.vocabulary.first_profile + 1, 7, 8], [0] * 7 + [7, 8]]
    assert (lm.length(first), lm.length(second)) == (9, 2)
    beside = encoder.batch(encoder(["a", "b"], asked))
    assert beside.ids.tolist() == [[7, 8]] * 2
    assert beside.recent.tolist() == [[4, 1], [-1, -1]]
    assert beside.profile.tolist() == [[1, -1], [-1, -1]]
    assert encoder.batch(encoder(["a"])).recent.shape == (1, 1), "never without a column: no engine likes empty ones"


@given(st.lists(st.lists(st.integers(-1, LAST), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(0, 7))
def test_the_newest_related_sids_are_kept_in_order(recent: list[list[int]], most: int) -> None:
    codes = torch.from_numpy(SPACE.sids).long()
    likely = torch.tensor([[0, 2]] * len(recent))
    kept = select(torch.tensor(recent), codes, likely, most)
    assert kept.shape[1] <= most
    for row, past in zip(kept.tolist(), recent, strict=True):
        expected = [sid for sid in past if sid >= 0 and SPACE.sids[sid, 0] in (0, 2)][:most]
        assert [sid for sid in row if sid >= 0] == expected
        assert row[: len(expected)] == expected, "what is missing stands behind"


def test_all_count_as_related_where_nothing_else_is_said() -> None:
    kept = select(torch.tensor([[3, -1, 5]]), torch.from_numpy(SPACE.sids).long(), None, 5)
    assert kept.tolist() == [[3, 5]]


def test_tokens_of_a_prompt_go_from_oldest_to_newest_then_the_profile() -> None:
    tokens = SPACE.sids + 100
    made = user_tokens(np.array([[4, 1, -1]]), np.array([[1, -1]]), tokens, first_profile=500)
    assert made == [[*(SPACE.sids[1] + 100), *(SPACE.sids[4] + 100), 501]]
    assert user_tokens(np.array([[-1]]), np.array([[-1, -1]]), tokens, 500) == [[]]


@pytest.mark.parametrize("dim", [None, 6])
def test_an_unknown_user_is_masked_out_and_moves_nothing(dim: int | None) -> None:
    torch.manual_seed(0)
    module = UserPrefix(3, 8, dim)
    torch.nn.init.constant_(module.taste, 0.7)
    embed = torch.nn.Embedding(20, 8)
    tokens = torch.from_numpy(SPACE.sids).long()
    vectors = None if dim is None else torch.randn(len(SPACE), dim)
    users = Users(torch.tensor([[-1, -1], [0, 2]]), torch.tensor([[-1, -1], [3, -1]]))
    embeds, mask, move = module(users, tokens, vectors, embed)
    assert embeds.shape == (2, 4, 8)
    assert mask.tolist() == [[False] * 4, [False, True, True, True]]
    if dim is None or vectors is None:
        assert move is None
    else:
        torch.testing.assert_close(move, torch.stack([torch.zeros(dim), 0.7 * vectors[3]]))
