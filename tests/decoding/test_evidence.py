"""Evidence and its mixture with the decoder: against brute force over every SID, on random trees, models and words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecall.decoding.adapter import QueryAdapter
from genrecall.decoding.evidence import Evidence
from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.lexical import Postings
from genrecall.decoding.score import SidTree, mixed_score
from genrecall.decoding.search import DecodeState, Prefix, beam_search
from genrecall.decoding.tables import ConstraintTables
from genrecall.sid import SidSpace
from tests.decoding.models import lean, offsets, padded_prompts, random_lm, random_space


def random_evidence(space: SidSpace, seed: int, terms: int = 12, dim: int | None = 8) -> Evidence:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, len(space), terms)
    sid = np.concatenate([rng.choice(len(space), c, replace=False) for c in counts]).astype(np.int32)
    arrays = {
        "start": torch.from_numpy(np.concatenate([[0], np.cumsum(counts), [len(sid)]])),
        "sid": torch.from_numpy(sid),
        "impact": torch.from_numpy(rng.random(len(sid)).astype(np.float32) * 5),
        "log_items": torch.from_numpy(np.log(rng.integers(1, 9, len(space))).astype(np.float32)),
    }
    if dim:
        vectors = torch.from_numpy(rng.normal(size=(len(space), dim)).astype(np.float32))
        arrays["vectors"] = torch.nn.functional.normalize(vectors, dim=-1)
    return Evidence(arrays, QueryAdapter(dim, 4) if dim else None).eval().requires_grad_(False)


class Mixture:
    """A random decoder and random evidence over the same SIDs, for two prompts."""

    def __init__(self, space: SidSpace, seed: int, gate: list[float] | None, narrow: bool = True) -> None:
        self.space = space
        model = random_lm(space, seed, layers=1)
        ids, mask = padded_prompts([3, 5], seed)
        self.decoder = lean(model)
        self.heads = LevelHeads(model.lm_head.weight, offsets(space), space.level_sizes)
        self.tables = replace(ConstraintTables.build(space), narrow=narrow)
        evidence = random_evidence(space, seed)
        terms = torch.from_numpy(np.random.default_rng(seed).integers(0, 13, (2, 3)))
        text = torch.nn.functional.normalize(torch.randn(2, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)
        plain = Prefix(model.model.embed_tokens(ids), mask, text)
        with torch.no_grad():
            self.prefix = replace(
                plain, evidence=evidence(text, terms, self.tables), gate=None if gate is None else torch.tensor(gate)
            )
            self.own = torch.stack([self._scores(replace(plain, evidence=None), row) for row in range(2)])

    def _scores(self, prefix: Prefix, row: int) -> torch.Tensor:
        one = Prefix(prefix.embeds[row : row + 1], prefix.mask[row : row + 1])
        tree = SidTree.of(self.tables.paths_of(np.arange(len(self.space))))
        return mixed_score(self.heads, self.tables, DecodeState.prefill(self.decoder, one), one, tree)

    def brute_force(self) -> np.ndarray:
        """log p of every SID, float [2, n]."""
        assert self.prefix.evidence is not None
        evidence, own = self.prefix.evidence.double().numpy(), self.own.double().numpy()
        if self.prefix.gate is None:
            return evidence
        gate = self.prefix.gate.double().numpy()[:, None]
        return np.log((1 - gate) * np.exp(evidence) + gate * np.exp(own))

    def search(self, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with torch.no_grad():
            beams = beam_search(self.decoder, self.heads, self.tables, self.prefix, width)
        return beams.sid.numpy(), beams.scores.numpy(), beams.valid.numpy()


SPACES = [random_space(1, (5, 6, 7), 60), random_space(2, (3, 40, 2), 70), random_space(3, (40, 2, 2), 50)]


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("gate", [None, [0.3, 0.7], [0.0, 1.0]])
@pytest.mark.parametrize("space", SPACES, ids=["even", "wide second", "wide first"])
def test_a_beam_as_wide_as_the_codebook_finds_every_sid_once_with_its_probability(
    space: SidSpace, gate: list[float] | None, narrow: bool
) -> None:
    mixture = Mixture(space, 7, gate, narrow)
    sid, scores, valid = mixture.search(len(space))
    expected = mixture.brute_force()
    assert valid.all()
    assert (np.sort(sid, axis=1) == np.arange(len(space))).all(), "each once"
    np.testing.assert_allclose(scores, np.take_along_axis(expected, sid, 1), atol=1e-4)
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(np.exp(expected).sum(1), 1, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 30), gate=st.sampled_from([None, 0.0, 0.2]))
def test_what_the_evidence_ranks_first_no_beam_loses(seed: int, width: int, gate: float | None) -> None:
    space = random_space(seed, (6, 6, 6), 80)
    mixture = Mixture(space, seed, None if gate is None else [gate, gate])
    sid, scores, _ = mixture.search(width)
    evidence, expected = mixture.prefix.evidence, mixture.brute_force()
    assert evidence is not None
    for row in range(2):
        assert len(set(sid[row].tolist())) == min(width, len(space))
        np.testing.assert_allclose(scores[row], expected[row, sid[row]], atol=1e-4)
        if not gate:
            best = np.sort(evidence[row].numpy())[::-1][:width]
            np.testing.assert_allclose(scores[row], best, atol=1e-4)


@pytest.mark.parametrize("gate", [None, [0.4, 0.4]])
def test_scoring_gives_what_the_search_gives(gate: list[float] | None) -> None:
    mixture = Mixture(SPACES[0], 3, gate)
    sid, scores, _ = mixture.search(20)
    prefix = mixture.prefix
    assert prefix.evidence is not None
    one = Prefix(
        prefix.embeds[:1],
        prefix.mask[:1],
        evidence=prefix.evidence[:1],
        gate=None if prefix.gate is None else prefix.gate[:1],
    )
    rows = np.sort(sid[0])
    with torch.no_grad():
        state = DecodeState.prefill(mixture.decoder, one) if one.asks_decoder else None
        scored = mixed_score(mixture.heads, mixture.tables, state, one, SidTree.of(mixture.tables.paths_of(rows)))
    order = np.argsort(sid[0])
    np.testing.assert_allclose(scored.numpy(), scores[0][order], atol=1e-4)


def test_words_are_added_up_alike_on_the_host_and_in_torch() -> None:
    space = SPACES[0]
    evidence = random_evidence(space, 5, terms=9)
    host = Postings(*(evidence.get_buffer(name).numpy() for name in ("start", "sid", "impact")))
    terms = np.array([[0, 4, 8, 9], [2, 9, 9, 9]])  # 9 is the term that pads
    expected = np.stack([host.scores(row, len(space)) for row in terms])
    np.testing.assert_allclose(evidence.lexical(torch.from_numpy(terms)).numpy(), expected, atol=1e-5)


def test_a_query_without_a_known_word_and_without_a_vector_prefers_large_sids() -> None:
    evidence = random_evidence(SPACES[0], 5, terms=4, dim=None)
    scores = evidence(None, torch.tensor([[4]]), ConstraintTables.build(SPACES[0]))
    assert scores.argmax() in torch.nonzero(evidence.log_items == evidence.log_items.max()).flatten()
    assert scores.exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_beyond_the_nearest_nodes_a_sid_takes_the_cosine_of_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all SIDs those below the nearest nodes are compared themselves; as many nodes as there are is exact."""
    space = random_space(4, (6, 8, 5), 150)
    tables, flat = ConstraintTables.build(space), random_evidence(space, 9)
    assert flat.adapter is not None
    nodes = torch.nn.functional.normalize(torch.randn(tables.code[1].shape[0], 8), dim=-1)
    arrays = {name: flat.get_buffer(name) for name in ("start", "sid", "impact", "log_items", "vectors")}
    tree = Evidence({**arrays, "node_vectors": nodes}, flat.adapter).requires_grad_(False)
    text = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1)
    exact, all_nodes = flat.dense(text, tables), tree.dense(text, tables)
    assert exact is not None
    assert all_nodes is not None
    np.testing.assert_allclose(all_nodes.numpy(), exact.numpy(), atol=1e-6)
    monkeypatch.setattr("genrecall.decoding.evidence.NEAREST", 4)
    few = tree.dense(text, tables)
    assert few is not None
    of_nodes = flat.adapter(text) @ nodes.T
    near = torch.zeros_like(of_nodes).scatter(1, of_nodes.topk(4).indices, 1.0)[:, tables.above[1]] > 0
    expected = torch.where(near, exact, of_nodes[:, tables.above[1]])
    np.testing.assert_allclose(few.numpy(), expected.numpy(), atol=1e-6)
