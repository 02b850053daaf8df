"""Texts -> prompts of the `lm` kind: text tokens, then a marker that says what the text is and asks for its SID.

Owns the vocabulary's layout behind the tokenizer's own ids: [item marker, query marker, level 1, level 2, level 3,
profiles], each level a contiguous range. Our tokens are ids only, unknown to the tokenizer, so no text can spell one.
A user's recent SIDs, oldest first, and profile stand before the query's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genrecall.errors import UserError

MARKERS = ("item", "query")
Marker = Literal["item", "query"]


@dataclass(frozen=True)
class Vocabulary:
    """Where the markers and the levels stand; `base` is the number of ids that the tokenizer knows."""

    base: int
    level_sizes: tuple[int, int, int]
    profiles: int = 0

    def marker(self, name: Marker) -> int:
        return self.base + MARKERS.index(name)

    @property
    def offsets(self) -> tuple[int, int, int]:
        first = self.base + len(MARKERS)
        return first, first + self.level_sizes[0], first + sum(self.level_sizes[:2])

    @property
    def first_profile(self) -> int:
        return self.base + len(MARKERS) + sum(self.level_sizes)

    @property
    def size(self) -> int:
        return self.first_profile + self.profiles


class PromptTemplate:
    """A `tokenizers.Tokenizer` with the layout above.

    Args:
        max_tokens: prompts are cut to it, the marker included (the start of the text is kept).
        lowercase: whether the tokenizer was trained on lower-cased text.
    """

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary, max_tokens: int, lowercase: bool) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        self.max_tokens = max_tokens
        self.lowercase = lowercase
        self.tokenizer.encode_special_tokens = True  # a control token written in a query is read as text

    @classmethod
    def load(cls, folder: Path, vocabulary: Vocabulary, max_tokens: int, lowercase: bool) -> PromptTemplate:
        """From `folder/tokenizer.json`; UserError where it is missing."""
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise UserError(f"{path} does not exist: a generator of kind lm needs its tokenizer")
        return cls(Tokenizer.from_file(str(path)), vocabulary, max_tokens, lowercase)

    def ids(self, texts: Sequence[str], marker: Marker) -> list[list[int]]:
        """Token ids of each prompt, 1 to max_tokens of them."""
        written = [text.lower() if self.lowercase else text for text in texts]
        encoded = self.tokenizer.encode_batch_fast(written, add_special_tokens=False)
        return [[*e.ids[: self.max_tokens - 1], self.vocabulary.marker(marker)] for e in encoded]


def user_tokens(recent: np.ndarray, profile: np.ndarray, tokens: np.ndarray, first_profile: int) -> list[list[int]]:
    """What stands before each query's text: three tokens a recent SID, oldest first, then one a known profile value.

    Args:
        recent: int64 [B, H] rows of SIDs, newest first, -1 where there is none; profile: int64 [B, 2], -1 if unknown.
        tokens: int64 [n, 3], the vocabulary rows of the codes of each SID.
    """
    return [
        [*tokens[past[past >= 0][::-1]].ravel().tolist(), *(first_profile + who[who >= 0]).tolist()]
        for past, who in zip(recent, profile, strict=True)
    ]


def left_pad(ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """int64 [B, S] ids and bool [B, S] mask; padding, id 0, on the left."""
    longest = max(map(len, ids))
    out = np.zeros((len(ids), longest), dtype=np.int64)
    mask = np.zeros((len(ids), longest), dtype=bool)
    for row, one in enumerate(ids):
        out[row, longest - len(one) :] = one
        mask[row, longest - len(one) :] = True
    return out, mask
