"""The lean decoder and search against Hugging Face's own, in float32."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from transformers import Qwen2ForCausalLM

from genrecall.decoding.search import Prefix
from genrecall.sid import SidSpace
from tests.decoding.models import lean, offsets, padded_prompts, random_lm, random_space, search


def hugging_face_search(
    model: Qwen2ForCausalLM,
    space: SidSpace,
    ids: torch.Tensor,
    mask: torch.Tensor,
    width: int,
    first: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """`generate` with `prefix_allowed_tokens_fn`: codes [B, W, 3] and summed log-probabilities [B, W]."""
    allowed: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for sid in space.sids.tolist():
        tokens = [o + c for o, c in zip(first, sid, strict=True)]
        for level in range(3):
            allowed[tuple(tokens[:level])].add(tokens[level])
    after = {prefix: sorted(tokens) for prefix, tokens in allowed.items()}
    length = ids.shape[1]
    out = model.generate(
        ids,
        attention_mask=mask.long(),
        max_new_tokens=3,
        min_new_tokens=3,
        num_beams=width,
        num_return_sequences=width,
        do_sample=False,
        length_penalty=0.0,
        early_stopping=False,
        prefix_allowed_tokens_fn=lambda _, seen: after.get(tuple(seen[length:].tolist()), [0]),
        return_dict_in_generate=True,
        output_scores=True,
    )
    codes = out.sequences[:, length:].view(len(ids), width, 3).numpy() - np.array(first)
    return codes, out.sequences_scores.view(len(ids), width).numpy()


@pytest.mark.parametrize(("heads", "kv_heads", "tied"), [(4, 2, True), (4, 4, False), (4, 1, True)])
def test_states_equal_hugging_faces_with_left_padding(heads: int, kv_heads: int, tied: bool) -> None:
    space = random_space(0, (5, 6, 7), 40)
    model = random_lm(space, 1, heads=heads, kv_heads=kv_heads, tied=tied)
    ids, mask = padded_prompts([3, 9, 6], seed=2)
    decoder = lean(model)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    visible = torch.ones(9, 9, dtype=torch.bool).tril() & mask.unsqueeze(1)
    with torch.no_grad():
        ours, _ = decoder(decoder.embed_tokens(ids), positions, visible)
        theirs = model.model(input_ids=ids, attention_mask=mask.long(), position_ids=positions).last_hidden_state
    assert torch.allclose(ours[mask], theirs[mask], atol=1e-4)


@pytest.mark.parametrize(
    ("width", "lengths", "seed"), [(4, [5], 1), (7, [3, 9, 6], 2), (20, [1, 12], 3), (12, [8, 8], 4)]
)
def test_search_equals_hugging_faces_on_random_weights(width: int, lengths: list[int], seed: int) -> None:
    space = random_space(seed, (12, 15, 15), 400)
    model = random_lm(space, seed)
    ids, mask = padded_prompts(lengths, seed)
    codes, scores = hugging_face_search(model, space, ids, mask, width, offsets(space))
    prefix = Prefix(model.get_input_embeddings()(ids), mask)
    ours, our_scores, valid = search(model, space, prefix, width, "vocabulary")
    assert valid.all()
    np.testing.assert_allclose(our_scores, scores, atol=1e-4)
    assert (ours == codes).all()
