"""The memory of behaviour: what it keeps of wants, and what it does to the evidence, against plain arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genrecall.decoding.evidence import Evidence
from genrecall.decoding.generator import with_memory
from genrecall.decoding.memory import BOOST, FILE, FOLDER, LEAST_SHARE, MAX_SIDS, ROCCHIO, Memory
from genrecall.decoding.tables import ConstraintTables
from genrecall.errors import UserError
from tests.decoding.models import random_space
from tests.decoding.test_evidence import random_evidence

WANTS = st.lists(
    st.tuples(st.integers(-5, 5), st.integers(0, 200), st.floats(0.5, 9)).map(lambda w: (w[0] << 60, w[1], w[2])),
    min_size=1,
    max_size=400,
)


@given(WANTS)
def test_a_query_keeps_its_most_wanted_sids_with_their_shares(wants: list[tuple[int, int, float]]) -> None:
    memory = Memory.of(*(np.array(column) for column in zip(*wants, strict=True)))
    assert memory.query.tolist() == sorted({query for query, _, _ in wants})
    for row, query in enumerate(memory.query.tolist()):
        total: dict[int, float] = {}
        for other, sid, weight in wants:
            if other == query:
                total[sid] = total.get(sid, 0.0) + weight
        kept = sorted(total, key=lambda sid: (-total[sid], sid))[:MAX_SIDS]
        own = slice(memory.start[row], memory.start[row + 1])
        assert memory.row(np.array([query])) == row
        np.testing.assert_allclose(memory.share[own].sum(), 1, rtol=1e-5)
        expected = np.array([total[sid] for sid in kept]) / sum(total[sid] for sid in kept)
        np.testing.assert_allclose(np.sort(memory.share[own]), np.sort(expected), rtol=1e-4)
        if len({round(weight, 6) for weight in total.values()}) == len(total):
            assert memory.sid[own].tolist() == kept
    assert memory.row(np.array([7])) == -1


@pytest.mark.parametrize("dim", [8, None])
def test_a_remembered_query_moves_to_what_was_wanted_and_gains_its_sids(dim: int | None) -> None:
    space = random_space(1, (5, 6, 7), 60)
    plain, tables = random_evidence(space, 3, dim=dim), ConstraintTables.build(space)
    memory = Memory.of(np.array([9, 9, 4]), np.array([2, 30, 7]), np.array([3.0, 1.0, 1.0]))
    arrays = {**dict(plain.named_buffers()), "weights": plain.weights.detach()}
    knows = Evidence(with_memory(arrays, memory), plain.adapter).eval().requires_grad_(False)
    count = len(plain.get_buffer("start")) - 2
    text = None if dim is None else torch.nn.functional.normalize(torch.randn(2, dim), dim=-1)
    words = torch.tensor([[0, 5, count], [0, 5, count]])
    rows = [memory.row(np.array([9])), -1]
    terms = torch.cat([words, torch.tensor([[count + 1 + rows[0]], [count]])], dim=1)
    vectors = plain.get_buffer("vectors") if dim else None
    wanted = None if vectors is None else torch.from_numpy(memory.wanted(rows, vectors.numpy()))
    ours = knows(text, terms, tables, wanted)
    np.testing.assert_allclose(ours[1], plain(text, words, tables)[1], atol=1e-6), "the other query is as it was"

    scores = plain.weights[1] * plain.lexical(words)[0] + plain.weights[2] * plain.get_buffer("log_items")
    if text is not None and vectors is not None and plain.adapter is not None:
        query = plain.adapter(text[:1])[0] + ROCCHIO * (0.75 * vectors[2] + 0.25 * vectors[30])
        scores = scores + plain.weights[0] * (vectors @ (query / query.norm()))
    for sid, share in ((2, 0.75), (30, 0.25)):
        scores[sid] += BOOST * np.log1p(share / LEAST_SHARE)
    np.testing.assert_allclose(ours[0], scores.log_softmax(-1), atol=1e-4)


def test_it_is_read_as_it_was_written_and_refused_for_other_sids(tmp_path: Path) -> None:
    memory = Memory.of(np.array([9, 4]), np.array([2, 30]), np.ones(2))
    assert Memory.load(tmp_path, 31) is None
    memory.save(tmp_path)
    again = Memory.load(tmp_path, 31)
    assert again is not None
    for name in ("query", "start", "sid", "share"):
        np.testing.assert_array_equal(getattr(again, name), getattr(memory, name))
    with pytest.raises(UserError, match=f"{FOLDER}/{FILE} names SIDs that the codebook does not have"):
        Memory.load(tmp_path, 30)
