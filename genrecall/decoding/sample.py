"""Sampling of SIDs behind one prefix: what rollouts are made of. Three forwards of the decoder, the prefix once.

The rows are those of the beam search (`DecodeState`), and so are the probabilities (`LevelHeads`): what is sampled is
what would be served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from genrecall.decoding.decoder import Decoder
from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.search import DecodeState, Prefix
from genrecall.decoding.tables import ConstraintTables
from genrecall.sid import LEVELS

Mask = Literal["children", "level"]


@dataclass(frozen=True)
class Samples:
    """`group` samples of each of B prefixes, with replacement.

    Attributes:
        codes: int64 [B, group, 3].
        log_probs: float32 [B, group, 3] of each step, under the distribution that it was drawn from.
        entropy: float32 [B, group, 3] of that distribution, in nats.
    """

    codes: Tensor
    log_probs: Tensor
    entropy: Tensor


def sample(
    decoder: Decoder,
    heads: LevelHeads,
    tables: ConstraintTables,
    prefix: Prefix,
    group: int,
    random: torch.Generator,
    mask: Mask = "children",
    temperature: float = 1.0,
) -> Samples:
    """Draw SIDs.

    Args:
        mask: "children": codes that continue a valid SID, so that every sample is one. "level": any code of the level,
            so that a sample can be invalid; not with a prefix prior, which scores children alone.
        random: on the device of the decoder.
        temperature: divides the log-probabilities before a draw; `log_probs` are those of the draw.
    """
    if mask == "level" and heads.prior is not None:
        raise ValueError("mask 'level' cannot go with a prefix prior, which scores children alone: use 'children'")
    tree = DecodeState.prefill(decoder, prefix)
    batch = len(prefix.mask)
    state = tree.state.expand(-1, group, -1)
    node = torch.zeros((batch, group), dtype=torch.int64, device=state.device)
    codes, log_probs, entropy = [], [], []
    for level in range(LEVELS):
        if mask == "children":
            logits = heads(level, state, tables, node, prefix.text)
        else:
            logits = level_logits(heads, level, state)
        logits = (logits / temperature).log_softmax(-1)
        pick = torch.multinomial(logits.exp().flatten(0, 1), 1, generator=random).view(batch, group)
        log_probs.append(logits.gather(-1, pick.unsqueeze(-1)).squeeze(-1))
        entropy.append(-(logits.exp() * logits).sum(-1))
        if mask == "children":
            node = tables.child(level, node, pick)
            codes.append(tables.codes(level, node))
        else:
            codes.append(pick)
        if level < LEVELS - 1:
            tree = tree.step(heads.offsets[level] + codes[-1])
            state = tree.state
    return Samples(torch.stack(codes, -1), torch.stack(log_probs, -1), torch.stack(entropy, -1))


def level_logits(heads: LevelHeads, level: int, state: Tensor) -> Tensor:
    """float32 [..., level size]: of every code of a level, whether or not an item has it."""
    first, size = heads.offsets[level], heads.level_sizes[level]
    return F.linear(state, heads.weight[first : first + size]).float()
