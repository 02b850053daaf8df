"""Users: their profile and the SIDs they were last interested in, as the part of the prefix before the query.

Stage 3 of the paper: gender, age band and recently clicked SIDs of related categories, then the query. An unknown user
adds nothing: the prefix is then that of the query alone.

Deviations, numbered: 1. "Related" is decided by the generator itself: the level-1 codes that are likeliest for the
query alone; the paper does not say how it relates categories. 2. Kind `encoder` has one token a SID where `lm` writes
three. 3. Kind `encoder` with a dense prior also moves the query's vector towards the mean of the recent ones, by a
learned amount that starts at zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Users:
    """B users as arrays.

    Attributes:
        profile: int64 [B, 2], positions in `UserConfig.profiles` of gender and age band; -1 where unknown.
        recent: int64 [B, H], rows of `SidSpace.sids`, newest first; -1 where there is none.
    """

    profile: Tensor
    recent: Tensor


def select(recent: Tensor, codes: Tensor, likely: Tensor | None, most: int) -> Tensor:
    """The newest `most` of each user's SIDs that are related to the query: int64 [B, at most `most`], -1 behind.

    Args:
        recent: int64 [B, H], -1 where there is none.
        codes: int64 [n, 3], the SIDs.
        likely: int64 [B, m], the level-1 codes that count as related; None: all.
    """
    keep = recent >= 0
    if likely is not None:
        keep &= (codes[recent.clamp(min=0), 0].unsqueeze(-1) == likely.unsqueeze(1)).any(-1)
    order = torch.argsort(~keep, dim=1, stable=True)[:, :most]
    kept = torch.where(keep, recent, -1).gather(1, order)
    return kept[:, : int((kept >= 0).sum(1).max())] if len(kept) else kept


class UserPrefix(nn.Module):
    """A user's embeddings for kind `encoder`: the recent SIDs, oldest first, then the profile.

    Args:
        profiles: how many profile values there are.
        dim: of the items' vectors, None where the generator has no dense prior and so no vectors.
    """

    def __init__(self, profiles: int, hidden_size: int, dim: int | None) -> None:
        super().__init__()
        self.profile = nn.Embedding(max(1, profiles), hidden_size)
        nn.init.normal_(self.profile.weight, std=0.02)
        self.vector = None if dim is None else nn.Linear(dim, hidden_size)
        self.taste = nn.Parameter(torch.zeros(()))  # weight of the history; the key of published weights

    def forward(
        self, users: Users, tokens: Tensor, vectors: Tensor | None, embed_tokens: nn.Embedding
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What stands before the query, and how far the query's vector is moved.

        Args:
            tokens: int64 [n, 3], the vocabulary rows of the codes of each SID.
            vectors: float32 [n, dim], the mean vector of the items of each SID; None without a dense prior.

        Returns:
            embeddings [B, H + 2, hidden], mask bool [B, H + 2], and the move [B, dim], None without vectors.
        """
        recent = users.recent.flip(1)
        known = recent >= 0
        row = recent.clamp(min=0)
        past = embed_tokens(tokens[row]).sum(-2)
        move = None
        if vectors is not None and self.vector is not None:
            seen = vectors[row] * known.unsqueeze(-1)
            past = past + self.vector(seen.to(past.dtype))
            move = self.taste * seen.sum(1) / known.sum(1, keepdim=True).clamp(min=1)
        profile = self.profile(users.profile.clamp(min=0))
        return torch.cat((past, profile), 1), torch.cat((known, users.profile >= 0), 1), move
