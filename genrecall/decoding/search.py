"""Constrained beam search for one SID: three levels, fixed shapes, nothing that makes the host wait for the device.

Owns the search, and how the decoder is mixed with the evidence. What a beam may become is in the tables, what it scores
in the heads and the evidence, what it sees in the decoder.
Candidates are masked before the top-k, so every beam kept is a prefix of a valid SID, and a beam as wide as the
codebook is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from genrecall.decoding.decoder import MASKED, Decoder, KeyValues
from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.tables import ConstraintTables
from genrecall.sid import LEVELS

MIN_VALID_SCORE = MASKED / 2  # below any sum of true log-probabilities, above any sum with a masked step


@dataclass(frozen=True)
class Prefix:
    """What conditions the search.

    Attributes:
        embeds: [B, S, hidden].
        mask: bool [B, S], False where a shorter text is padded, on the left.
        text: [B, dim] vectors of the texts, where the generator has an encoder.
        evidence: float32 [B, n], log-probabilities of all SIDs by the evidence, where there is any.
        gate: float32 [B], the share of the probability that is the decoder's, beside the evidence; None: all is the
            evidence's, and the decoder is not asked.
    """

    embeds: Tensor
    mask: Tensor
    text: Tensor | None = None
    evidence: Tensor | None = None
    gate: Tensor | None = None

    @property
    def asks_decoder(self) -> bool:
        return self.evidence is None or self.gate is not None


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


@dataclass(frozen=True)
class DecodeState:
    """The decoder's state behind a prefix: rows that attend to the prefix, their own ancestors and themselves.

    Owns the keys and values of [prefix | step 1 | step 2] and the attention mask; beams, samples and SIDs to score are
    such rows alike. Immutable: one prefilled state can be continued in many ways.

    Attributes:
        state: [B, R, hidden] of the newest rows (after the prefill: one), from which the next level is predicted.
        past: of all rows so far.
        visible: bool [B, R, L], which of the L rows so far the newest attend to.
        position: int64 [B, 1] of the next row.
    """

    decoder: Decoder
    state: Tensor
    past: KeyValues
    visible: Tensor
    position: Tensor

    @classmethod
    def prefill(cls, decoder: Decoder, prefix: Prefix) -> DecodeState:
        """The state of B prefixes alone: one forward of the decoder over them."""
        rows = torch.arange(prefix.mask.shape[1], device=prefix.mask.device)
        visible = (rows.unsqueeze(-1) >= rows) & prefix.mask.unsqueeze(1)
        positions = (prefix.mask.cumsum(-1) - 1).clamp(min=0)
        state, past = decoder(prefix.embeds, positions, visible, last=1)
        return cls(decoder, state, past, prefix.mask.unsqueeze(1), prefix.mask.sum(-1, keepdim=True))

    def step(self, token: Tensor, parent: Tensor | None = None) -> DecodeState:
        """The state with R more rows.

        Args:
            token: int64 [B, R], rows of the embedding matrix.
            parent: int64 [B, R], the row of the step before that each continues; None: its own, or the prefix.
        """
        batch, rows = token.shape
        before = self.visible
        if parent is not None:
            before = before.gather(1, parent.unsqueeze(-1).expand(-1, -1, before.shape[-1]))
        step = torch.arange(rows, device=token.device)
        own = (step.unsqueeze(-1) == step).expand(batch, -1, -1)
        visible = torch.cat((before.expand(-1, rows, -1), own), dim=-1)
        embeds = self.decoder.embed_tokens(token)
        state, past = self.decoder(embeds, self.position.expand(-1, rows), visible, self.past)
        return DecodeState(self.decoder, state, past, visible, self.position + 1)


def beam_search(
    decoder: Decoder,
    heads: LevelHeads,
    tables: ConstraintTables,
    prefix: Prefix,
    width: int,
) -> Beams:
    """The `width` likeliest SIDs that a beam of that width finds.

    Without evidence, with no end-of-sequence and a fixed length of three, this is Hugging Face's beam search
    (`num_beams=width`, length penalty without effect), except that beams below the last valid SID come back as invalid
    rather than as repeats.

    With evidence p(SID) is a mixture, (1 - gate) evidence + gate decoder, and a prefix is ranked by the best leaf below
    it in the evidence, mixed with the decoder's probability of the prefix. Neither is ever less than a leaf's own
    share, so what the evidence alone ranks among the first `width` is always found.
    """
    if prefix.evidence is not None and not prefix.asks_decoder:
        score, node = top(prefix.evidence.unsqueeze(1), width)
        return Beams(node, score, score > MIN_VALID_SCORE)
    decoding = DecodeState.prefill(decoder, prefix)
    node = torch.zeros(decoding.state.shape[:2], dtype=torch.int64, device=decoding.state.device)
    score = own = torch.zeros(decoding.state.shape[:2], device=decoding.state.device)  # own: of the decoder alone
    ahead = None if prefix.evidence is None else tables.best_below(prefix.evidence)
    for level in range(LEVELS):
        step = own.unsqueeze(-1) + heads(level, decoding.state, tables, node, prefix.text)
        mixed = step
        if ahead is not None:
            mixed = mix_children(step, ahead[level], tables, level, node, prefix.gate)
            alive = (score > MIN_VALID_SCORE).unsqueeze(-1)  # the evidence knows nothing of beams that are none
            mixed = torch.where(alive, mixed, MASKED)
        score, pick = top(mixed, width)
        own = score if ahead is None else step.flatten(1).gather(1, pick)
        parent = pick // step.shape[-1]
        slot = pick - parent * step.shape[-1]  # the exporter has no remainder by a symbolic size
        node = tables.child(level, node.gather(1, parent), slot)
        if level < LEVELS - 1:
            token = heads.offsets[level] + tables.codes(level, node)
            decoding = decoding.step(token, parent if level else None)
    return Beams(node, score, score > MIN_VALID_SCORE)


def mix_children(
    decoder: Tensor, ahead: Tensor, tables: ConstraintTables, level: int, parent: Tensor, gate: Tensor | None
) -> Tensor:
    """float32 [B, R, C]: log of the mixture for the children of R prefixes, about -1e9 where a slot holds none.

    Args:
        decoder: [B, R, C], log-probabilities of the decoder.
        ahead: [B, nodes], those of the evidence, by node of `level`.
    """
    child, valid = tables.children(level, parent)
    evidence = ahead.gather(1, child.flatten(1)).view(child.shape)
    return torch.where(valid, mix(evidence, decoder, gate), MASKED)


def mix(evidence: Tensor, decoder: Tensor, gate: Tensor | None) -> Tensor:
    """log((1 - gate) e^evidence + gate e^decoder), each [B, ...]; gate: [B], None: 0."""
    if gate is None:
        return evidence
    gate = gate.view(-1, *[1] * (evidence.dim() - 1))
    one, two = evidence + _log(1 - gate), decoder + _log(gate)
    most = torch.maximum(one, two)
    return most + ((one - most).exp() + (two - most).exp()).log()


def _log(share: Tensor) -> Tensor:
    return torch.where(share > 0, share.clamp(min=1e-30).log(), MASKED)


def top(scores: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The best `width` of [B, R, C] and their flat index, padded with invalid ones where there are fewer.

    The top of each beam first, then of those together, gives the same and takes longer on a CPU.
    """
    flat = scores.flatten(1)
    if torch.compiler.is_exporting() or flat.shape[1] < width:  # an exported graph meets every number of candidates
        best, pick = F.pad(flat, (0, width), value=MASKED).topk(width)
        return best, pick.clamp(max=flat.shape[1] - 1)
    best, pick = flat.topk(width)
    return best, pick
