"""Text -> terms: the analyzer of the lexical evidence, the same in training and in serving; text -> words as written.

Any script. Letters keep their marks (Thai, Hindi, Arabic); Latin letters lose theirs, since people leave accents out.
Scripts that put no spaces between words become overlapping pairs of characters, as Lucene's CJKAnalyzer has them.
Numbers and units are terms of their own ("10mm" as "10 mm"), and a code of both is one more ("wh1000xm4").
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
LONGEST = 4  # characters of a piece of a run without spaces
CONTINUED = "\u2060"  # Unicode's word joiner: no space stands here
_WRITTEN = regex.compile(r"[\p{L}\p{M}\p{N}ー]+(?:['’-][\p{L}\p{M}\p{N}ー]+)*")  # noqa: RUF001 - titles have it
_RUN = regex.compile(
    r"(?V1)(?P<unspaced>\p{Han}+|[\p{Hiragana}\p{Katakana}ー]+|\p{Hangul}+|(?:[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*)+)"
    r"|[^\p{Han}\p{Hiragana}\p{Katakana}ー\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+"
)
_NOT_PLAIN = regex.compile(rf"[{_UNSPACED}]|(?<!\p{{Latin}}\p{{M}}*)\p{{M}}")
_THOUSANDS = regex.compile(r"\p{N}{1,3}(?:,\p{N}{3})+")
_CHARACTER = regex.compile(r"\p{L}\p{M}*")
_LATIN_MARKS = regex.compile(r"(?<=\p{Latin}\p{M}*)\p{M}+")


# A few words of each language of Snowball that titles and descriptions use and the others lack, or use less.
_TELLING = {
    "english": "the and with for of your from is this in",
    "german": "und mit für der die das aus ist oder von den auch",
    "french": "et avec pour le les des du une dans en est sur",
    "spanish": "y con para el los las una del por es en más",
    "portuguese": "e com para o os as uma do da em não mais",
    "italian": "e con per il gli della di una sono in più",
    "dutch": "en met voor het een van de is uit zijn ook",
    "swedish": "och med för en ett till är på av som",
    "danish": "og med til en et er på af som for",
    "norwegian": "og med til en et er på av som for ikke",
    "turkish": "ve ile için bir bu da çok olan",
    "russian": "и с для в на из не по",  # noqa: RUF001
}
_OF_SCRIPT = {"CYRILLIC": "russian", "GREEK": "greek", "ARABIC": "arabic", "DEVANAGARI": "hindi", "TAMIL": "tamil"}
_TOLD = 20_000  # texts that a language is told from
_SHARE = 0.01  # of the words, which the telling words of a language must be


def language_of(texts: Sequence[str]) -> str:
    """The language of Snowball that texts are in, told by their most common small words; english where nothing tells.

    A language whose script no other has here (Russian, Greek, Arabic, Hindi, Tamil) is told by its letters.
    """
    texts = texts[:: max(1, len(texts) // _TOLD)]
    words = [word for text in texts for word in _COMPOUND.findall(text.casefold())]
    scripts = Counter(script_language(word) for word in words)
    script, count = scripts.most_common(1)[0] if scripts else ("", 0)
    if script and 2 * count > len(words):
        return script
    counts = Counter(words)
    told = {name: sum(counts[word] for word in telling.split()) for name, telling in _TELLING.items()}
    best = max(told, key=lambda name: told[name])  # the first of equals
    return best if told[best] > told["english"] and told[best] >= _SHARE * len(words) else "english"


def script_language(text: str) -> str:
    """The language of Snowball of a text's first letter's script; "" for Latin letters and for other scripts."""
    if text.isascii():
        return ""
    first = next((letter for letter in text if letter.isalpha()), "")
    return _OF_SCRIPT.get(unicodedata.name(first, "").partition(" ")[0], "") if first else ""


def needs_analyzer(text: str) -> bool:
    """Whether a text has marks that belong to letters, or a script without spaces: `\\w+` does not find its words."""
    return bool(_NOT_PLAIN.search(text))


def words_of(text: str) -> list[str]:
    """The words of a text as they are written, in lower case: letters with their marks, digits, inner ' and -.

    A run of a script without spaces is cut where its script changes, and into pieces of at most LONGEST characters; a
    piece that continues a run begins with CONTINUED.
    """
    words = _WRITTEN.findall(text.lower())
    return words if text.isascii() else [piece for word in words for piece in _pieces(word)]


def joined(words: Sequence[str]) -> str:
    """Words of `words_of` as a text: pieces of a run without spaces between them."""
    return " ".join(words).replace(f" {CONTINUED}", "").replace(CONTINUED, "")


def _pieces(word: str) -> Iterator[str]:
    first = True
    for part in _RUN.finditer(word):
        letters = _CHARACTER.findall(part[0]) if part["unspaced"] else [part[0]]
        size = -(-len(letters) // max(1, -(-len(letters) // LONGEST)))  # even pieces
        for start in range(0, len(letters), max(1, size)):
            yield ("" if first else CONTINUED) + "".join(letters[start : start + size])
            first = False


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
