"""Synthetic queries, cut from titles, brands and categories: what a shop without logs trains on.

Pure text. Every figure that rests on them is labelled `synthetic`.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np

from genrecall.analyzer import joined, words_of

_STOP_WORDS = frozenset(
    words_of(
        "a an and are as at be by for from in into is it its of on or our that the their this to up with without you "
        "your new pack set pcs piece pieces size inch inches count"
    )
)
_TITLE_HEAD = 10  # the words of a title that name the thing; what follows are sizes, colours and claims


def content_words(text: str) -> list[str]:
    """Lower-case words that carry meaning: no function words, no bare numbers, no single letters.

    Of a script without spaces, pieces of runs (`words_of`); there a single character may be a word.
    """
    words = words_of(text)
    return [
        word for word in words if word not in _STOP_WORDS and (len(word) > 1 or _is_word(word)) and not word.isdigit()
    ]


def _is_word(letter: str) -> bool:
    return unicodedata.category(letter) == "Lo" and unicodedata.east_asian_width(letter) == "W"


def synthetic_queries(
    title: str, brand: str, category: Sequence[str], count: int, rng: np.random.Generator
) -> list[str]:
    """`count` queries that the item would answer, some perhaps alike; none for an item without a usable word.

    Three forms in turn, those that the item has words for: a run of the title's words, the brand with a word of the
    title, the most specific category.
    """
    words = content_words(title)[:_TITLE_HEAD]
    made_by = content_words(brand)
    maker, kind = joined(made_by), joined(content_words(category[-1])) if len(category) else ""
    other = [word for word in words if word not in made_by]
    forms = []
    if words:
        forms.append("run")
    if maker and other:
        forms.append("brand")
    if kind:
        forms.append("category")
    return [_compose(forms[n % len(forms)], words, other, maker, kind, rng) for n in range(count)] if forms else []


def _compose(form: str, words: list[str], other: list[str], maker: str, kind: str, rng: np.random.Generator) -> str:
    if form == "brand":
        return f"{maker} {joined([other[rng.integers(len(other))]])}"
    if form == "category":
        return f"{joined([other[rng.integers(len(other))]])} {kind}" if other and rng.random() < 0.5 else kind
    length = int(rng.integers(2, 5))
    start = int(rng.integers(max(1, len(words) - length + 1)))
    return joined(words[start : start + length])


def item_generator(seed: int, item_id: str) -> np.random.Generator:
    """Random numbers of one item: the same in every fold and catalogue order, so that embeddings are cached once."""
    return np.random.default_rng((seed, zlib.crc32(item_id.encode("utf-8"))))
