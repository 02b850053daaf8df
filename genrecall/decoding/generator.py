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
from genrecall.decoding.prompts import Prompts, Vocabulary, left_pad
from genrecall.decoding.search import Prefix, beam_search
from genrecall.decoding.text_encoder import TextEncoder
from genrecall.decoding.transformer import Decoder, DecoderConfig
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
    """Texts -> Prefix."""

    @abstractmethod
    def forward(self, texts: Sequence[str]) -> Prefix: ...


class PromptPrefixer(Prefixer):
    """The token embeddings of a query's prompt, left-padded."""

    def __init__(self, prompts: Prompts, embed_tokens: nn.Embedding) -> None:
        super().__init__()
        self.prompts = prompts
        self.embed_tokens = embed_tokens

    def forward(self, texts: Sequence[str]) -> Prefix:
        ids, mask = left_pad(self.prompts.ids(texts, "query"))
        device = self.embed_tokens.weight.device
        return Prefix(self.embed_tokens(torch.from_numpy(ids).to(device)), torch.from_numpy(mask).to(device))


class EncoderPrefixer(Prefixer):
    """One projected vector of a frozen sentence encoder."""

    def __init__(self, encoder: TextEncoder, projection: nn.Linear) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = projection

    def forward(self, texts: Sequence[str]) -> Prefix:
        text = self.encoder.encode(texts)
        embeds = self.projection(text.to(self.projection.weight.dtype)).unsqueeze(1)
        return Prefix(embeds, torch.ones(len(texts), 1, dtype=torch.bool, device=embeds.device), text)


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
    ) -> None:
        self.kind = kind
        self.prefixer = prefixer
        self.decoder = decoder
        self.heads = heads
        self.space = space
        self.tables = tables

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
        prefixer: Prefixer
        if block.kind == "lm":
            vocabulary = Vocabulary(block.base, block.level_sizes)
            prompts = Prompts.load(folder, vocabulary, block.max_tokens, block.lowercase)
            prefixer = PromptPrefixer(prompts, decoder.embed_tokens)
        elif block.kind == "encoder":
            projection = nn.Linear(weights["projection.weight"].shape[1], shape.hidden_size, dtype=dtype)
            _assign(projection, {k: weights[f"projection.{k}"].to(dtype) for k in ("weight", "bias")}, folder)
            prefixer = EncoderPrefixer(
                TextEncoder.load(folder / ENCODER, block.max_tokens, device, dtype=dtype), projection
            )
        else:
            raise UserError(f"{folder / CONFIG}: kind {block.kind!r} is unknown: use 'lm' or 'encoder'")
        for module in (prefixer, decoder, heads):
            module.to(device).eval().requires_grad_(False)
        return cls(block.kind, prefixer, decoder, heads, space, ConstraintTables.build(space, device))

    @torch.inference_mode()
    def generate(
        self, texts: Sequence[str], k: int, beam_width: int | None = None, users: Sequence[Any] | None = None
    ) -> Generated:
        """The `k` likeliest SIDs of each text that a beam of `beam_width` (default: k) finds.

        `users` is taken for the sake of one interface and has no effect: stages 1 and 2 do not condition on a user.
        Raises ValueError for k < 1 or a beam narrower than k.
        """
        width = k if beam_width is None else beam_width
        if k < 1:
            raise ValueError(f"k is {k}: ask for at least one SID")
        if width < k:
            raise ValueError(f"beam_width is {width}, but k is {k}: widen the beam or lower k")
        parts = [self._search(texts[i : i + BATCH], k, width) for i in range(0, len(texts), BATCH)]
        if not parts:
            return _empty(0, k)
        return Generated(
            np.concatenate([p.codes for p in parts]),
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.valid for p in parts]),
            sum(p.encode_ms for p in parts),
            sum(p.search_ms for p in parts),
        )

    def _search(self, texts: Sequence[str], k: int, width: int) -> Generated:
        width = min(width, len(self.space))  # a wider beam finds nothing more
        clock = self._clock()
        start = next(clock)
        prefix = self.prefixer(texts)
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

    def _clock(self) -> Iterator[float]:
        """Milliseconds, once the device has done what it was given."""
        device = self.decoder.norm.weight.device
        while True:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            yield time.perf_counter() * 1e3


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


def _read_prior(weights: Mapping[str, Tensor], hidden_size: int, folder: Path) -> PrefixPrior:
    own = {key.removeprefix("prior."): w.float() for key, w in weights.items() if key.startswith("prior.")}
    shapes = [own[f"vectors_{level}"].shape for level in range(LEVELS)]
    with torch.device("meta"):
        prior = PrefixPrior((shapes[0][0], shapes[1][0], shapes[2][0]), shapes[0][1], hidden_size)
    _assign(prior, own, folder)
    return prior
