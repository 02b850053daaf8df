"""Constrained beam search for one SID: three levels, fixed shapes, nothing that makes the host wait for the device.

Owns the search. What a beam may become is in the tables, what it scores in the heads, what it sees in the decoder.
Candidates are masked before the top-k, so every beam kept is a prefix of a valid SID, and a beam as wide as the
codebook is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from genrecall.decoding.constraint import ConstraintTables
from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.transformer import MASKED, Decoder
from genrecall.sid import LEVELS

_DEAD = MASKED / 2  # below any sum of true log-probabilities, above any sum with a masked step


@dataclass(frozen=True)
class Prefix:
    """What conditions the search.

    Attributes:
        embeds: [B, S, hidden].
        mask: bool [B, S], False where a shorter text is padded, on the left.
        text: [B, dim] vectors of the texts, where the generator has an encoder.
    """

    embeds: Tensor
    mask: Tensor
    text: Tensor | None = None


@dataclass(frozen=True)
class Beams:
    """The beams in descending order of score.

    Attributes:
        sid: int64 [B, W], rows of `SidSpace.sids`.
        scores: float32 [B, W], log-probabilities, about -1e9 where there was no further SID.
        valid: bool [B, W].
    """

    sid: Tensor
    scores: Tensor
    valid: Tensor


class PrefixTree:
    """What grows behind one prefix: rows that see the prefix, their own ancestors and themselves.

    Owns the keys and values of [prefix | step 1 | step 2] and who sees whom; beams, samples and SIDs to score are such
    rows alike.

    Args:
        prefix: B of them; one forward of the decoder runs over it here.

    Attributes:
        state: [B, 1, hidden], from which the first level is predicted.
    """

    def __init__(self, decoder: Decoder, prefix: Prefix) -> None:
        rows = torch.arange(prefix.mask.shape[1], device=prefix.mask.device)
        visible = (rows.unsqueeze(-1) >= rows) & prefix.mask.unsqueeze(1)
        positions = (prefix.mask.cumsum(-1) - 1).clamp(min=0)
        self._decoder = decoder
        self._position = prefix.mask.sum(-1, keepdim=True)
        self._visible = prefix.mask.unsqueeze(1)
        self.state, self._past = decoder(prefix.embeds, positions, visible, last=1)

    def grow(self, token: Tensor, parent: Tensor | None = None) -> Tensor:
        """States [B, R, hidden] of one more step of R rows.

        Args:
            token: int64 [B, R], rows of the embedding matrix.
            parent: int64 [B, R], the row of the step before that each continues; None: its own, or the prefix.
        """
        rows = token.shape[1]
        visible = self._visible
        if parent is not None:
            visible = visible.gather(1, parent.unsqueeze(-1).expand(-1, -1, visible.shape[-1]))
        step = torch.arange(rows, device=token.device)
        own = (step.unsqueeze(-1) == step).expand(token.shape[0], -1, -1)
        self._visible = torch.cat((visible.expand(-1, rows, -1), own), dim=-1)
        positions = self._position.expand_as(token)
        self._position = self._position + 1
        embeds = self._decoder.embed_tokens(token)
        states, self._past = self._decoder(embeds, positions, self._visible, self._past)
        return states


def beam_search(decoder: Decoder, heads: LevelHeads, tables: ConstraintTables, prefix: Prefix, width: int) -> Beams:
    """The `width` likeliest SIDs that a beam of that width finds.

    With no end-of-sequence and a fixed length of three this is Hugging Face's beam search (`num_beams=width`, length
    penalty without effect), except that beams below the last valid SID come back as invalid rather than as repeats.
    """
    tree = PrefixTree(decoder, prefix)
    state = tree.state
    node = torch.zeros(state.shape[:2], dtype=torch.int64, device=state.device)
    score = torch.zeros(state.shape[:2], device=state.device)
    for level in range(LEVELS):
        step, child = heads(level, state, tables, node, prefix.text)
        score, pick = top(score.unsqueeze(-1) + step, width)
        node = child.flatten(1).gather(1, pick)
        if level < LEVELS - 1:
            token = heads.offsets[level] + tables.code[level][node]
            state = tree.grow(token, pick // child.shape[-1] if level else None)
    return Beams(node, score, score > _DEAD)


def top(scores: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The best `width` of [B, R, C] and their flat index, padded with dead ones where there are fewer."""
    flat = scores.flatten(1)
    best, pick = F.pad(flat, (0, width), value=MASKED).topk(width, sorted=True)  # no shape depends on what is there
    return best, pick.clamp(max=flat.shape[1] - 1)
