"""Text -> terms: the analyzer of the lexical evidence, the same in training and in serving.

Any script. Letters keep their marks (Thai, Hindi, Arabic); Latin letters lose theirs, since people leave accents out.
Scripts that put no spaces between words become overlapping pairs of characters, as Lucene's CJKAnalyzer has them.
Numbers and units are terms of their own ("10mm" as "10 mm"), and a code of both is one more ("wh1000xm4").
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import regex

NAME = "words-1"  # kept in a bundle: whoever changes what terms come out of a text changes the name
_CACHED = 1 << 16  # runs of letters and digits whose terms are remembered: catalogues repeat their words
_UNSPACED = r"ー\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_COMPOUND = regex.compile(r"(?:[\p{L}\p{M}\p{N}]|(?<=\p{N})[.,](?=\p{N}))+")
_PART = regex.compile(
    rf"(?V1)(?P<number>\p{{N}}+(?:[.,]\p{{N}}+)*)|(?P<unspaced>(?:[[{_UNSPACED}]&&\p{{L}}]\p{{M}}*)+)"
    rf"|(?P<word>[[\p{{L}}\p{{M}}]--[[{_UNSPACED}]&&\p{{L}}]]+)"
)
_THOUSANDS = regex.compile(r"\p{N}{1,3}(?:,\p{N}{3})+")
_CHARACTER = regex.compile(r"\p{L}\p{M}*")
_LATIN_MARKS = regex.compile(r"(?<=\p{Latin}\p{M}*)\p{M}+")


class Analyzer:
    """Terms of a text, with the Snowball stemmer of one language; words of other scripts pass it unchanged.

    Raises ValueError for a language that Snowball lacks.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        try:
            _ = self._stemmer
        except KeyError:
            raise ValueError(
                f"language {language!r} has no Snowball stemmer: name another, such as 'english'"
            ) from None

    def __call__(self, text: str) -> list[str]:
        """The terms in the order of the text, repeats kept; [] for a text without a letter or digit."""
        return [term for compound in _COMPOUND.findall(_normalized(text)) for term in self._of(compound)]

    @cached_property
    def _stemmer(self) -> Any:
        import Stemmer  # at first use: the rest of `genrecall.decoding` does without

        return Stemmer.Stemmer(self.language)

    @cached_property
    def _of(self) -> Callable[[str], tuple[str, ...]]:
        return lru_cache(_CACHED)(lambda compound: tuple(self._terms(compound)))

    def _terms(self, compound: str) -> Iterator[str]:
        parts = list(_PART.finditer(compound))
        for part in parts:
            if part["word"]:
                yield self._stemmer.stemWord(part["word"])
            elif number := part["number"]:
                yield number.replace(",", "") if _THOUSANDS.fullmatch(number) else number.replace(",", ".")
            else:
                yield from _pairs(_CHARACTER.findall(part["unspaced"]))
        if {part.lastgroup for part in parts} == {"word", "number"}:
            yield compound


def _pairs(characters: list[str]) -> list[str]:
    return [a + b for a, b in pairwise(characters)] or characters


def _normalized(text: str) -> str:
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFC", _LATIN_MARKS.sub("", folded))
