"""A trained generator, loaded from a bundle: texts -> the likeliest SIDs.

Owns the two kinds, which differ only in how a text becomes a prefix of embeddings for the decoder:
  lm       token embeddings of a prompt; any Qwen2-family checkpoint.
  encoder  one vector of a frozen sentence encoder, projected; made for CPUs and small shops.
The search behind them is one. Needs torch, NumPy and transformers alone. The files are those of `layout`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrecall.decoding.constraint import ConstraintTables
from genrecall.decoding.heads import LevelHeads, Normalizer
from genrecall.decoding.layout import CONFIG, ENCODER, WEIGHTS, GeneratorBlock, check_space, read_folder
from genrecall.decoding.prior import PrefixPrior
from genrecall.decoding.prompts import Prompts, Vocabulary, left_pad, user_tokens
from genrecall.decoding.search import Prefix, PrefixTree, beam_search
from genrecall.decoding.text_encoder import TextEncoder
from genrecall.decoding.transformer import Decoder, DecoderConfig
from genrecall.decoding.user import User, UserBlock, UserPrefix, Users, select
from genrecall.errors import UserError
from genrecall.sid import LEVELS, SidSpace

BATCH = 32  # texts searched at once; longer calls are cut, which bounds memory


@dataclass(frozen=True)
class Generated:
    """What a call gives, as NumPy: B texts, k SIDs each.

    Attributes:
        codes: int32 [B, k, 3]; zeros where not valid.
        scores: float32 [B, k], log p(SID), descending; -inf where not valid.
        valid: bool [B, k]: False behind the last SID that the search found.
        encode_ms, search_ms: of the whole call: text to prefix, and prefix to SIDs.
    """

    codes: np.ndarray
    scores: np.ndarray
    valid: np.ndarray
    encode_ms: float = 0.0
    search_ms: float = 0.0


class Prefixer(ABC, nn.Module):
    """Texts, and the users who ask, -> Prefix."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Any:
        """What of a prefix depends on the texts alone."""

    @abstractmethod
    def forward(self, encoded: Any, users: Users | None = None) -> Prefix: ...


class PromptPrefixer(Prefixer):
    """The token embeddings of a prompt, left-padded: what is known of the user, the query, a marker."""

    def __init__(self, prompts: Prompts, embed_tokens: nn.Embedding, tokens: np.ndarray) -> None:
        super().__init__()
        self.prompts = prompts
        self.embed_tokens = embed_tokens
        self.tokens = tokens

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self.prompts.ids(texts, "query")

    def forward(self, encoded: list[list[int]], users: Users | None = None) -> Prefix:
        if users is not None:
            recent, profile = users.recent.cpu().numpy(), users.profile.cpu().numpy()
            before = user_tokens(recent, profile, self.tokens, self.prompts.vocabulary.first_profile)
            encoded = [who + query for who, query in zip(before, encoded, strict=True)]
        ids, mask = left_pad(encoded)
        device = self.embed_tokens.weight.device
        return Prefix(self.embed_tokens(torch.from_numpy(ids).to(device)), torch.from_numpy(mask).to(device))


class EncoderPrefixer(Prefixer):
    """What is known of the user, then one projected vector of a frozen sentence encoder."""

    def __init__(
        self,
        encoder: TextEncoder,
        projection: nn.Linear,
        user: UserPrefix | None,
        embed_tokens: nn.Embedding,
        tokens: np.ndarray,
        prior: PrefixPrior | None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = projection
        self.user = user
        self.embed_tokens = embed_tokens
        self.register_buffer("tokens", torch.from_numpy(tokens), persistent=False)
        self.prior = prior

    def encode(self, texts: Sequence[str]) -> Tensor:
        return self.encoder.encode(texts)

    def forward(self, encoded: Tensor, users: Users | None = None) -> Prefix:
        return encoder_prefix(
            encoded, self.projection, users, self.user, self.get_buffer("tokens"), self.prior, self.embed_tokens
        )


def encoder_prefix(
    text: Tensor,
    projection: nn.Linear,
    users: Users | None,
    user: UserPrefix | None,
    tokens: Tensor,
    prior: PrefixPrior | None,
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


class Generator:
    """Prefixer, decoder, heads and constraint tables of one codebook. Holds no state between calls."""

    def __init__(
        self,
        kind: str,
        prefixer: Prefixer,
        decoder: Decoder,
        heads: LevelHeads,
        space: SidSpace,
        tables: ConstraintTables,
        user: UserBlock | None = None,
    ) -> None:
        self.kind = kind
        self.prefixer = prefixer
        self.decoder = decoder
        self.heads = heads
        self.space = space
        self.tables = tables
        self.user = user

    @property
    def dim(self) -> int:
        """Hidden size of the decoder."""
        return self.decoder.config.hidden_size

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.decoder.config.num_hidden_layers}x{self.dim}"

    @classmethod
    def load(
        cls,
        folder: Path,
        space: SidSpace,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        normalizer: Normalizer | None = None,
    ) -> Generator:
        """Read a bundle's `generator/` for the SIDs of the same bundle.

        Args:
            dtype: of the weights; scores are float32 and the prefix prior computes in float32 whatever it is.
            normalizer: in place of the one it was trained with.

        Raises UserError for a folder that is not a generator's, or belongs to another codebook.
        """
        config, weights = read_folder(folder)
        block = GeneratorBlock.read(config, folder / CONFIG)
        check_space(block, space, folder)
        shape = DecoderConfig.read(config)
        with torch.device("meta"):
            decoder = Decoder(shape)
        body = {key.removeprefix("model."): w.to(dtype) for key, w in weights.items() if key.startswith("model.")}
        _assign(decoder, body, folder)
        tied = "lm_head.weight" not in weights
        head = decoder.embed_tokens.weight if tied else nn.Parameter(weights["lm_head.weight"].to(dtype))
        prior = _read_prior(weights, shape.hidden_size, folder) if block.prior else None
        heads = LevelHeads(head, block.offsets, block.level_sizes, normalizer or block.normalizer, prior)
        tokens = space.sids.astype(np.int64) + np.array(block.offsets)
        profiles = len(block.user.profiles) if block.user else 0
        prefixer: Prefixer
        if block.kind == "lm":
            vocabulary = Vocabulary(block.base, block.level_sizes, profiles)
            prompts = Prompts.load(folder, vocabulary, block.max_tokens, block.lowercase)
            prefixer = PromptPrefixer(prompts, decoder.embed_tokens, tokens)
        elif block.kind == "encoder":
            projection = nn.Linear(weights["projection.weight"].shape[1], shape.hidden_size, dtype=dtype)
            _assign(projection, {k: weights[f"projection.{k}"].to(dtype) for k in ("weight", "bias")}, folder)
            user = _read_user(weights, profiles, shape.hidden_size, dtype, folder) if block.user else None
            encoder = TextEncoder.load(folder / ENCODER, block.max_tokens, device, dtype=dtype)
            prefixer = EncoderPrefixer(encoder, projection, user, decoder.embed_tokens, tokens, prior)
        else:
            raise UserError(f"{folder / CONFIG}: kind {block.kind!r} is unknown: use 'lm' or 'encoder'")
        for module in (prefixer, decoder, heads):
            module.to(device).eval().requires_grad_(False)
        return cls(block.kind, prefixer, decoder, heads, space, ConstraintTables.build(space, device), block.user)

    @torch.inference_mode()
    def generate(
        self, texts: Sequence[str], k: int, beam_width: int | None = None, users: Sequence[User | None] | None = None
    ) -> Generated:
        """The `k` likeliest SIDs of each text that a beam of `beam_width` (default: k) finds.

        users: who asks, one a text, None where nobody is known. A generator without stage 3 ignores them.
        Raises ValueError for k < 1, a beam narrower than k, or another number of users than texts.
        """
        width = k if beam_width is None else beam_width
        if k < 1:
            raise ValueError(f"k is {k}: ask for at least one SID")
        if width < k:
            raise ValueError(f"beam_width is {width}, but k is {k}: widen the beam or lower k")
        if users is not None and len(users) != len(texts):
            raise ValueError(f"{len(users)} users for {len(texts)} texts: give one a text, None where nobody is known")
        known = users if users is not None and self.user is not None and any(users) else [None] * len(texts)
        cuts = [slice(i, i + BATCH) for i in range(0, len(texts), BATCH)]
        parts = [self._search(texts[cut], known[cut], k, width) for cut in cuts]
        if not parts:
            return _empty(0, k)
        return Generated(
            np.concatenate([p.codes for p in parts]),
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.valid for p in parts]),
            sum(p.encode_ms for p in parts),
            sum(p.search_ms for p in parts),
        )

    def _search(self, texts: Sequence[str], users: Sequence[User | None], k: int, width: int) -> Generated:
        width = min(width, len(self.space))  # a wider beam finds nothing more
        clock = self._clock()
        start = next(clock)
        prefix = self._prefix(texts, users)
        encoded = next(clock)
        beams = beam_search(self.decoder, self.heads, self.tables, prefix, width)
        searched = next(clock)
        out = _empty(len(texts), k)
        found = min(k, width)
        valid = beams.valid[:, :found].cpu().numpy()
        out.valid[:, :found] = valid
        out.codes[:, :found] = np.where(valid[..., None], self.space.sids[beams.sid[:, :found].cpu().numpy()], 0)
        out.scores[:, :found] = np.where(valid, beams.scores[:, :found].cpu().numpy(), -np.inf)
        return Generated(out.codes, out.scores, out.valid, encoded - start, searched - encoded)

    def _prefix(self, texts: Sequence[str], users: Sequence[User | None]) -> Prefix:
        encoded = self.prefixer.encode(texts)
        if self.user is None or not any(users):
            return self.prefixer(encoded)
        who = Users.of(users, self.user, self.space).to(self.decoder.norm.weight.device)
        likely = None
        if self.user.related and who.recent.shape[1]:
            likely = likely_codes(self.decoder, self.heads, self.tables, self.prefixer(encoded), self.user.related)
        codes = self.tables.sids
        return self.prefixer(encoded, Users(who.profile, select(who.recent, codes, likely, self.user.recent)))

    def _clock(self) -> Iterator[float]:
        """Milliseconds, once the device has done what it was given."""
        device = self.decoder.norm.weight.device
        while True:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            yield time.perf_counter() * 1e3


def likely_codes(decoder: Decoder, heads: LevelHeads, tables: ConstraintTables, prefix: Prefix, count: int) -> Tensor:
    """int64 [B, at most count]: the likeliest level-1 codes of each prefix."""
    root = torch.zeros((len(prefix.mask), 1), dtype=torch.int64, device=prefix.mask.device)
    scores, child = heads(0, PrefixTree(decoder, prefix).state, tables, root, prefix.text)
    best = scores[:, 0].topk(min(count, scores.shape[-1])).indices
    return tables.code[0][child[:, 0].gather(1, best)]


def _empty(batch: int, k: int) -> Generated:
    return Generated(
        np.zeros((batch, k, LEVELS), dtype=np.int32),
        np.full((batch, k), -np.inf, dtype=np.float32),
        np.zeros((batch, k), dtype=bool),
    )


def _assign(module: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    try:
        module.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise UserError(f"{folder / WEIGHTS} does not fit its config.json: {error}") from None


def _read_user(
    weights: Mapping[str, Tensor], profiles: int, hidden_size: int, dtype: torch.dtype, folder: Path
) -> UserPrefix:
    own = {key.removeprefix("user."): w.to(dtype) for key, w in weights.items() if key.startswith("user.")}
    with torch.device("meta"):
        user = UserPrefix(profiles, hidden_size, own["vector.weight"].shape[1] if "vector.weight" in own else None)
    _assign(user, own, folder)
    return user


def _read_prior(weights: Mapping[str, Tensor], hidden_size: int, folder: Path) -> PrefixPrior:
    own = {key.removeprefix("prior."): w.float() for key, w in weights.items() if key.startswith("prior.")}
    shapes = [own[f"vectors_{level}"].shape for level in range(LEVELS)]
    with torch.device("meta"):
        prior = PrefixPrior((shapes[0][0], shapes[1][0], shapes[2][0]), shapes[0][1], hidden_size)
    _assign(prior, own, folder)
    return prior
