"""One forward over [prefix | first codes | second codes] gives what the search gives, and what each SID alone gives."""

from __future__ import annotations

import pytest
import torch

from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.search import Prefix
from genrecall.decoding.tables import ConstraintTables
from tests.decoding.models import offsets, padded_prompts, random_lm, random_space, search
from trainer.generator.policy import Policy, visible

SPACE = random_space(1, (4, 5, 6), 40)
LENGTHS = [3, 6, 1]


@pytest.fixture(scope="module")
def policy() -> Policy:
    model = random_lm(SPACE, 3)
    heads = LevelHeads(model.lm_head.weight, offsets(SPACE), SPACE.level_sizes)
    return Policy(model.model, heads, ConstraintTables.build(SPACE), lambda x: x)


def prefix(policy: Policy) -> Prefix:
    ids, mask = padded_prompts(LENGTHS, 2)
    return Prefix(policy.backbone.embed_tokens(ids), mask)


def test_a_shared_prefix_gives_the_scores_of_the_search(policy: Policy) -> None:
    codes, scores, valid = search(random_lm(SPACE, 3), SPACE, prefix(policy), 7)
    assert valid.all()
    found = policy.log_probs(prefix(policy), torch.from_numpy(SPACE.index_of(codes)))
    torch.testing.assert_close(found.sum(-1), torch.from_numpy(scores), rtol=1e-4, atol=1e-5)


def test_sids_of_a_group_do_not_see_each_other(policy: Policy) -> None:
    sid = torch.randint(0, len(SPACE), (3, 5), generator=torch.Generator().manual_seed(0))
    together = policy.log_probs(prefix(policy), sid)
    alone = torch.cat([policy.log_probs(prefix(policy), sid[:, g : g + 1]) for g in range(5)], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_rows_see_the_prefix_their_own_code_and_themselves() -> None:
    seen = visible(torch.tensor([[False, True]]), 2)[0].int().tolist()
    assert seen == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 0, 1, 0, 0],
        [0, 1, 1, 0, 1, 0],
        [0, 1, 0, 1, 0, 1],
    ]
