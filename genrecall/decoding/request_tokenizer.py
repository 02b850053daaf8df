"""Queries and who asks them -> token ids and rows of SIDs: what a batch is made of, before any weight is touched.

Owns the one batch layout that every engine reads (`PromptBatch`). Needs NumPy and a tokenizer alone, so a process that
only receives requests can do it. `lm` writes the user into the prompt; `encoder` passes the user beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from genrecall.decoding.config import ENCODER, GeneratorConfig
from genrecall.decoding.prompt_template import PromptTemplate, Vocabulary, left_pad, user_tokens
from genrecall.decoding.user import FIELDS, User
from genrecall.errors import UserError
from genrecall.sid import SidSpace

_NOBODY = np.full(len(FIELDS), -1, dtype=np.int64)
_NO_PAST = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class TokenizedPrompt:
    """One query.

    Attributes:
        tokens: the query's ids, for the decoder (`lm`) or the sentence encoder (`encoder`).
        recent: int64 [h], rows of `SidSpace.sids` that the user was last interested in, newest first.
        profile: int64 [2], positions in `UserConfig.profiles` of gender and age band, -1 where unknown.
    """

    tokens: Sequence[int]
    recent: np.ndarray = field(default_factory=lambda: _NO_PAST)
    profile: np.ndarray = field(default_factory=lambda: _NOBODY)

    @property
    def known(self) -> bool:
        """Whether anything is known of the user."""
        return bool(len(self.recent) or (self.profile >= 0).any())


@dataclass(frozen=True)
class PromptBatch:
    """B prompts, padded.

    Attributes:
        ids: int64 [B, S]; mask: bool [B, S], False where padded: on the left for `lm`, on the right for `encoder`.
        recent: int64 [B, H >= 1], -1 where there is none, and profile: int64 [B, 2]; `encoder` alone reads them.
    """

    ids: np.ndarray
    mask: np.ndarray
    recent: np.ndarray
    profile: np.ndarray


class Tokenize(Protocol):
    def __call__(self, texts: Sequence[str]) -> list[list[int]]: ...


class RequestTokenizer:
    """Made from the generator's folder; safe to call from any thread.

    Args:
        tokenize: texts -> ids.
        vocabulary: of `lm`; None for `encoder`.
        padding: the id that fills the rest of an `encoder` row.
    """

    def __init__(
        self,
        tokenize: Tokenize,
        block: GeneratorConfig,
        space: SidSpace,
        vocabulary: Vocabulary | None,
        padding: int = 0,
    ) -> None:
        self.block = block
        self.space = space
        self.vocabulary = vocabulary
        self._tokenize = tokenize
        self._padding = padding
        self._profiles = {name: n for n, name in enumerate(block.user.profiles)} if block.user else {}

    @classmethod
    def load(cls, folder: Path, block: GeneratorConfig, space: SidSpace) -> RequestTokenizer:
        """Reads tokenizer.json. Raises UserError for a missing file or an unknown kind."""
        if block.kind == "lm":
            vocabulary = Vocabulary(block.base, block.level_sizes, len(block.user.profiles) if block.user else 0)
            prompts = PromptTemplate.load(folder, vocabulary, block.max_tokens, block.lowercase)
            return cls(lambda texts: prompts.ids(texts, "query"), block, space, vocabulary)
        if block.kind == "encoder":
            tokenizer = encoder_tokenizer(folder / ENCODER, block.max_tokens)
            padding = (tokenizer.padding or {}).get("pad_id", 0)
            tokenizer.no_padding()
            return cls(lambda texts: [e.ids for e in tokenizer.encode_batch(list(texts))], block, space, None, padding)
        raise UserError(f"{folder}: kind {block.kind!r} is unknown: use 'lm' or 'encoder'")

    def __call__(self, texts: Sequence[str], users: Sequence[User | None] | None = None) -> list[TokenizedPrompt]:
        """One prompt a text. A generator without stage 3 ignores users; what it does not know of one is left out."""
        ids = self._tokenize(texts)
        if users is None or self.block.user is None:
            return [TokenizedPrompt(tokens) for tokens in ids]
        return [self._with(TokenizedPrompt(tokens), user) for tokens, user in zip(ids, users, strict=True)]

    def length(self, prompt: TokenizedPrompt) -> int:
        """Tokens that the model reads of it."""
        return len(prompt.tokens) + len(self._before(prompt))

    def inputs(self, prompts: Sequence[TokenizedPrompt]) -> PromptBatch:
        """The arrays of a batch of one prompt at least."""
        recent = np.full((len(prompts), max(1, *(len(p.recent) for p in prompts))), -1, dtype=np.int64)
        for row, prompt in enumerate(prompts):
            recent[row, : len(prompt.recent)] = prompt.recent
        profile = np.stack([p.profile for p in prompts])
        if self.vocabulary is not None:
            ids, mask = left_pad([[*self._before(p), *p.tokens] for p in prompts])
        else:
            ids, mask = right_pad([p.tokens for p in prompts], self._padding)
        return PromptBatch(ids, mask, recent, profile)

    def _with(self, prompt: TokenizedPrompt, user: User | None) -> TokenizedPrompt:
        if user is None:
            return prompt
        block = self.block.user
        assert block is not None
        rows = self.space.index_of(user.recent) if len(user.recent) else _NO_PAST
        rows = rows[rows >= 0]
        if not block.related:  # otherwise the generator says which of them count
            rows = rows[: block.recent]
        profile = np.array([self._profiles.get(f"{name}={getattr(user, name)}", -1) for name in FIELDS])
        return replace(prompt, recent=rows, profile=profile)

    def _before(self, prompt: TokenizedPrompt) -> list[int]:
        """The user's tokens, of `lm`."""
        if self.vocabulary is None or not prompt.known:
            return []
        tokens = self.space.sids[prompt.recent].astype(np.int64) + np.array(self.block.offsets)
        rows = np.arange(len(tokens))[None]
        return user_tokens(rows, prompt.profile[None], tokens, self.vocabulary.first_profile)[0]


def right_pad(ids: Sequence[Sequence[int]], value: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 [B, S] ids and bool [B, S] mask; padding on the right."""
    out = np.full((len(ids), max(map(len, ids))), value, dtype=np.int64)
    mask = np.zeros(out.shape, dtype=bool)
    for row, one in enumerate(ids):
        out[row, : len(one)] = one
        mask[row, : len(one)] = True
    return out, mask


def encoder_tokenizer(folder: Path, max_tokens: int) -> Any:
    """The tokenizer of a sentence encoder that was saved in `folder`: texts -> at most `max_tokens` ids each."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path} does not exist: a sentence encoder needs its tokenizer, publish the bundle again")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
