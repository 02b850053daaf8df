"""The policy of both kinds under training: log-probabilities of SIDs, each step normalized over the valid children.

Source: stages 1 to 3 of the paper use next-token cross-entropy over the vocabulary. Deviation: invalid codes take no
part, as the search never proposes them; nothing is spent on learning which SIDs exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Qwen2Model

from genrecall.decoding.decoder import MASKED
from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.search import Prefix
from genrecall.decoding.tables import ConstraintTables
from genrecall.sid import LEVELS


@dataclass(frozen=True)
class Policy:
    """The parts of a generator under training that its two kinds share.

    Attributes:
        backbone: Hugging Face's decoder; heads: of the levels; tables: of the valid SIDs.
        dropout: applied to embeddings and states; nothing in eval mode.
    """

    backbone: Qwen2Model
    heads: LevelHeads
    tables: ConstraintTables
    dropout: Callable[[Tensor], Tensor]

    def states(self, prefix: Prefix, codes: Tensor) -> Tensor:
        """The states [B, G, 3, hidden] from which the levels of G SIDs a prefix are predicted, in one forward.

        The prefix is there once: the G first codes stand behind it, then the G second codes, and a mask lets each row
        see the prefix, its own first code and itself, as in the search (`DecodeState`).

        Args:
            codes: int64 [B, G, 3]; the last code is predicted and not read.
        """
        batch, group, _ = codes.shape
        length = prefix.mask.shape[1]
        offsets = torch.tensor(self.heads.offsets[: LEVELS - 1], device=codes.device)
        tokens = (codes[..., : LEVELS - 1] + offsets).transpose(1, 2).reshape(batch, -1)
        embeds = torch.cat([prefix.embeds, self.backbone.embed_tokens(tokens)], dim=1)
        attended = visible(prefix.mask, group)
        before = (prefix.mask.cumsum(-1) - 1).clamp(min=0)
        steps = prefix.mask.sum(-1, keepdim=True) + torch.arange(LEVELS - 1, device=codes.device).repeat_interleave(
            group
        )
        states = self.backbone(
            inputs_embeds=self.dropout(embeds),
            attention_mask=torch.where(attended, 0.0, MASKED).to(embeds.dtype).unsqueeze(1),
            position_ids=torch.cat([before, steps], dim=1),
            use_cache=False,
        ).last_hidden_state
        states = self.dropout(states)
        root = states[:, length - 1 : length].expand(-1, group, -1)
        return torch.stack([root, *states[:, length:].split(group, dim=1)], dim=2)

    def log_probs(self, prefix: Prefix, sid: Tensor) -> Tensor:
        """log p of each code of SIDs, teacher-forced, over the valid children: float32 [B, G, 3].

        sid: int64 [B, G], rows of `SidSpace.sids`.
        """
        path = self.tables.paths[sid]
        states = self.states(prefix, self.tables.sids[sid])
        parent = torch.zeros_like(sid)
        log_probs = []
        for level in range(LEVELS):
            scores = self.heads(level, states[:, :, level], self.tables, parent, prefix.text)
            slot = self.tables.slot(level, parent, path[..., level])
            log_probs.append(scores.gather(-1, slot.unsqueeze(-1)).squeeze(-1))
            parent = path[..., level]
        return torch.stack(log_probs, dim=-1)


def visible(mask: Tensor, group: int) -> Tensor:
    """bool [B, L, L], L = S + 2 G: which rows of [prefix | G first codes | G second codes] each row attends to.

    mask: bool [B, S], False where the prefix is padded.
    """
    batch, length = mask.shape
    own = torch.eye(group, dtype=torch.bool, device=mask.device).repeat(LEVELS - 1, LEVELS - 1).tril()
    total = length + (LEVELS - 1) * group
    seen = torch.zeros((total, total), dtype=torch.bool, device=mask.device)
    seen[:, :length] = True
    seen[:length] = seen[:length].tril()
    seen[length:, length:] = own
    seen = seen.expand(batch, -1, -1).clone()
    seen[:, :, :length] &= mask.unsqueeze(1)
    return seen
