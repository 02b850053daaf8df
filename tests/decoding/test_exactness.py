"""The search against brute force: every valid SID scored by a full forward without cache, then sorted."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2ForCausalLM

from genrecall.decoding.dense_prior import DensePrior
from genrecall.decoding.heads import Normalizer
from genrecall.decoding.search import Prefix
from genrecall.decoding.tables import Representation
from genrecall.sid import SidSpace
from tests.decoding.models import offsets, padded_prompts, random_lm, random_space, search

DIM = 6
NORMALIZERS: list[Normalizer] = ["vocabulary", "level", "children"]


def random_prior(space: SidSpace, seed: int) -> DensePrior:
    """A prior with every part at work."""
    rng = np.random.default_rng(seed)
    nodes = [len(np.unique(space.sids[:, : level + 1], axis=0)) for level in range(3)]
    prior = DensePrior((nodes[0], nodes[1], nodes[2]), DIM, 32)
    prior.fill(
        [rng.normal(size=(n, DIM)).astype(np.float32) for n in nodes],
        [rng.integers(1, 9, n).astype(np.float32) for n in nodes],
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        prior.tau.copy_(torch.randn(3) * 0.3)
        prior.size_weight.copy_(torch.randn(3))
        torch.nn.init.normal_(prior.from_text.weight, std=0.3)
        torch.nn.init.normal_(prior.from_state.weight, std=0.3)
    return prior


def step_log_probs(
    model: Qwen2ForCausalLM,
    space: SidSpace,
    prefix: Prefix,
    row: int,
    codes: tuple[int, ...],
    normalizer: Normalizer,
    prior: DensePrior | None,
) -> dict[int, float]:
    """log p(next code | prompt, codes) of every valid next code, in plain Python over a full forward."""
    level = len(codes)
    prompt = prefix.embeds[row, prefix.mask[row]]
    tokens = torch.tensor([o + c for o, c in zip(offsets(space), codes, strict=False)], dtype=torch.long)
    embeds = torch.cat([prompt, model.get_input_embeddings()(tokens)]).unsqueeze(0)
    out = model(inputs_embeds=embeds, output_hidden_states=True)
    state, logits = out.hidden_states[-1][0, -1], out.logits[0, -1]
    first = offsets(space)[level]
    nodes = np.unique(space.sids[:, : level + 1], axis=0)
    children = [(n, int(code[-1])) for n, code in enumerate(nodes) if tuple(code[:-1].tolist()) == codes]
    scores = {code: logits[first + code] for _, code in children}
    if prior is not None and prefix.text is not None:
        text = prefix.text[row]
        query = text + prior.from_text.weight @ text + prior.from_state.weight @ (state / 32**0.5)
        for node, code in children:
            near = torch.exp(prior.tau[level]) * (query @ prior.vectors(level)[node])
            scores[code] = scores[code] + near + prior.size_weight[level] * prior.log_items(level)[node]
    over = {
        "vocabulary": logits,
        "level": logits[first : first + space.level_sizes[level]],
        "children": torch.stack(list(scores.values())),
    }[normalizer]
    return {code: float(score - over.logsumexp(0)) for code, score in scores.items()}


def plain_beam_search(
    model: Qwen2ForCausalLM,
    space: SidSpace,
    prefix: Prefix,
    row: int,
    width: int,
    normalizer: Normalizer,
    prior: DensePrior | None,
) -> list[tuple[float, tuple[int, ...]]]:
    """Beam search in Python lists: what the tensors have to reproduce. A width of all SIDs is brute force."""
    beams: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for _ in range(3):
        grown = [
            (score + step, (*codes, code))
            for score, codes in beams
            for code, step in step_log_probs(model, space, prefix, row, codes, normalizer, prior).items()
        ]
        beams = sorted(grown, reverse=True)[:width]
    return beams


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6)),
    sids=st.integers(1, 30),
    width=st.integers(1, 40),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    normalizer=st.sampled_from(NORMALIZERS),
)
@torch.no_grad()
def test_prompts_find_what_a_plain_beam_search_finds(
    seed: int, sizes: tuple[int, int, int], sids: int, width: int, lengths: list[int], normalizer: Normalizer
) -> None:
    space = random_space(seed, sizes, sids)
    model = random_lm(space, seed, layers=1)
    ids, mask = padded_prompts(lengths, seed)
    check(model, space, Prefix(model.get_input_embeddings()(ids), mask), width, normalizer, None)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6)),
    sids=st.integers(1, 30),
    width=st.integers(1, 40),
    with_prior=st.booleans(),
)
@torch.no_grad()
def test_text_vectors_find_what_a_plain_beam_search_finds(
    seed: int, sizes: tuple[int, int, int], sids: int, width: int, with_prior: bool
) -> None:
    space = random_space(seed, sizes, sids)
    model = random_lm(space, seed, layers=1, tied=False)
    torch.manual_seed(seed)
    prefix = Prefix(torch.randn(2, 1, 32), torch.ones(2, 1, dtype=torch.bool), torch.randn(2, DIM))
    check(model, space, prefix, width, "children", random_prior(space, seed) if with_prior else None)


def check(
    model: Qwen2ForCausalLM,
    space: SidSpace,
    prefix: Prefix,
    width: int,
    normalizer: Normalizer,
    prior: DensePrior | None,
) -> None:
    codes, scores, valid = search(model, space, prefix, width, normalizer, prior)
    for row in range(len(codes)):
        plain = plain_beam_search(model, space, prefix, row, width, normalizer, prior)
        assert valid[row].sum() == len(plain)
        assert valid[row, : len(plain)].all()
        np.testing.assert_allclose(scores[row, : len(plain)], [score for score, _ in plain], atol=1e-3)
        by_sid = dict(zip(map(tuple, codes[row, : len(plain)].tolist()), scores[row].tolist(), strict=False))
        assert len(by_sid) == len(plain)
        assert by_sid == pytest.approx({sid: score for score, sid in plain}, abs=1e-3)
        if width >= len(space):
            assert set(by_sid) == set(map(tuple, space.sids.tolist()))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20)),
    sids=st.integers(1, 60),
    width=st.integers(1, 40),
    normalizer=st.sampled_from(NORMALIZERS),
    representations=st.tuples(*[st.sampled_from(get_args(Representation))] * 3),
)
@torch.no_grad()
def test_every_representation_finds_the_same_beams(
    seed: int,
    sizes: tuple[int, int, int],
    sids: int,
    width: int,
    normalizer: Normalizer,
    representations: tuple[Representation, Representation, Representation],
) -> None:
    space = random_space(seed, sizes, sids)
    model = random_lm(space, seed, layers=1)
    ids, mask = padded_prompts([3, 1], seed)
    prefix = Prefix(model.get_input_embeddings()(ids), mask)
    codes, scores, valid = search(model, space, prefix, width, normalizer)
    others, other_scores, other_valid = search(model, space, prefix, width, normalizer, None, representations)
    assert (valid == other_valid).all()
    np.testing.assert_allclose(scores[valid], other_scores[valid], atol=1e-4)
    assert (codes[valid] == others[valid]).all()


@torch.no_grad()
def test_children_normalizer_sums_to_one_over_valid_sids() -> None:
    space = random_space(5, (4, 5, 6), 50)
    model = random_lm(space, 5)
    ids, mask = padded_prompts([4, 2], 5)
    _, scores, valid = search(model, space, Prefix(model.get_input_embeddings()(ids), mask), 60)
    np.testing.assert_allclose(np.where(valid, np.exp(scores), 0).sum(1), 1.0, atol=1e-4)
