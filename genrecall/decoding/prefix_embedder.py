"""A batch of prompts -> the prefix that the search continues. One module a kind, tensors in and out.

lm       token embeddings of a prompt; any Qwen2-family checkpoint.
encoder  one vector of a frozen sentence encoder, projected; made for CPUs and small shops.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genrecall.decoding.dense_prior import DensePrior
from genrecall.decoding.search import Prefix
from genrecall.decoding.text_encoder import TextEncoder
from genrecall.decoding.user_prefix import UserPrefix, Users
from genrecall.sid import LEVELS


class TokenPrefixEmbedder(nn.Module):
    """The token embeddings of a left-padded prompt, whose tokens already include the user's."""

    def __init__(self, embed_tokens: nn.Embedding) -> None:
        super().__init__()
        self.embed_tokens = embed_tokens

    def forward(self, ids: Tensor, mask: Tensor, users: Users | None, tokens: Tensor) -> Prefix:
        """ids int64 [B, S], mask bool [B, S]; users and tokens are read by the other kind alone."""
        return Prefix(self.embed_tokens(ids), mask)


class EncoderPrefixEmbedder(nn.Module):
    """The user's embeddings, then one projected vector of a frozen sentence encoder."""

    def __init__(
        self,
        encoder: TextEncoder,
        projection: nn.Linear,
        user: UserPrefix | None,
        embed_tokens: nn.Embedding,
        prior: DensePrior | None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = projection
        self.user = user
        self.embed_tokens = embed_tokens
        self.prior = prior

    def forward(self, ids: Tensor, mask: Tensor, users: Users | None, tokens: Tensor) -> Prefix:
        """ids int64 [B, S], mask bool [B, S] of the sentence encoder; tokens int64 [n, 3], the vocabulary rows of the
        codes of each SID.
        """
        text = self.encoder(ids, mask.long())
        return encoder_prefix(text, self.projection, users, self.user, tokens, self.prior, self.embed_tokens)


def encoder_prefix(
    text: Tensor,
    projection: nn.Linear,
    users: Users | None,
    user: UserPrefix | None,
    tokens: Tensor,
    prior: DensePrior | None,
    embed_tokens: nn.Embedding,
) -> Prefix:
    """The prefix of kind `encoder`, in training as in serving. text: float32 [B, dim], the encoder's vectors."""
    embeds = projection(text.to(projection.weight.dtype)).unsqueeze(1)
    mask = torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
    if users is None or user is None:
        return Prefix(embeds, mask, text)
    before, known, move = user(users, tokens, None if prior is None else prior.vectors(LEVELS - 1), embed_tokens)
    text = text if move is None else text + move
    return Prefix(torch.cat((before, embeds), 1), torch.cat((known, mask), 1), text)
