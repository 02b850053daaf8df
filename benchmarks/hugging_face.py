"""Constrained search for SIDs with Hugging Face `generate`, as public code does: baselines of benchmarks.search."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, Qwen2ForCausalLM

from genrecall.sid import LEVELS, SidSpace

Trie = dict[tuple[int, ...], list[int]]
Search = Callable[[Tensor, int], np.ndarray]
"""(prompt ids [B, S], beams) -> token ids [B, W, 3]"""


def trie(space: SidSpace, offsets: tuple[int, int, int]) -> Trie:
    """Tokens that may follow each prefix of tokens."""
    children: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for tokens in (space.sids + np.array(offsets)).tolist():
        for level in range(LEVELS):
            children[tuple(tokens[:level])].add(tokens[level])
    return {prefix: sorted(tokens) for prefix, tokens in children.items()}


def allowed_fn(model: Qwen2ForCausalLM, after: Trie) -> Search:
    """`prefix_allowed_tokens_fn`, Hugging Face's own way to constrain."""

    def search(ids: Tensor, width: int) -> np.ndarray:
        length = ids.shape[1]
        return _generate(
            model, ids, width, prefix_allowed_tokens_fn=lambda _, seen: after[tuple(seen[length:].tolist())]
        )

    return search


def trie_processor(model: Qwen2ForCausalLM, after: Trie) -> Search:
    """A `LogitsProcessor` over the trie, as public SID recommenders write it: one mask a beam, filled in a loop."""

    class Constrain(LogitsProcessor):
        def __init__(self, length: int) -> None:
            self.length = length

        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            mask = torch.full_like(scores, float("-inf"))
            for row, seen in enumerate(input_ids[:, self.length :].tolist()):
                mask[row, after[tuple(seen)]] = 0
            return scores + mask

    def search(ids: Tensor, width: int) -> np.ndarray:
        return _generate(model, ids, width, logits_processor=LogitsProcessorList([Constrain(ids.shape[1])]))

    return search


def filtered(model: Qwen2ForCausalLM, space: SidSpace, offsets: tuple[int, int, int]) -> Search:
    """Unconstrained beams; SIDs that no item has are discarded afterwards (-1)."""
    first = np.array(offsets)

    def search(ids: Tensor, width: int) -> np.ndarray:
        tokens = _generate(model, ids, width)
        return np.where((space.index_of(tokens - first) >= 0)[..., None], tokens, -1)

    return search


def _generate(model: Qwen2ForCausalLM, ids: Tensor, width: int, **options: Any) -> np.ndarray:
    out = model.generate(  # type: ignore[misc]  # its decorator confuses the checker
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=LEVELS,
        min_new_tokens=LEVELS,
        num_beams=width,
        num_return_sequences=width,
        do_sample=False,
        length_penalty=0.0,
        **options,
    )
    return out[:, ids.shape[1] :].cpu().numpy().reshape(len(ids), width, LEVELS)
