"""Queries for purchases that came without one: 1 to 3 words of the title, chosen to fit many other titles too.

Users type a franchise or a kind of product rather than a full title, so a word is the likelier the more titles have
it. Pure functions; the same seed, user and item give the same query.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable

EARLY = 6  # content words from a title's beginning that a query may take: later ones describe, they do not name
WORD_COUNTS = ((1, 0.5), (2, 0.85), (3, 1.0))  # words of a query -> cumulative share

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")  # noqa: RUF001
_NUMBER = re.compile(r"\d|^[ivx]+$")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Stop words: no query has them.
STOP_WORDS = _set(
    "a an and at by for from in into is it its no not of on or the to vs versus with without your you "
    "bundle code collection collector's collectors compatible digital discontinued download edition episode game "
    "game's games import included includes japan japanese limited new official officially old online only pack "
    "packaging pcs physical pre-load premium product series set special standard ultimate version vol volume"
)
# Words that a query may have beside another, never alone: platforms, their makers, colours.
WEAK = _set(
    "advance black blue boy clear color colour cube dreamcast ds dsi electronic gameboy gamecube genesis gold gray "
    "green grey lite mac microsoft mini nes nintendo one orange original pc pink playstation portable psp purple red "
    "saturn sega silver slim snes sony station switch video vita wii white windows wireless xbox xl yellow"
)


def words_of(text: str) -> list[str]:
    """All words in their order, lowercase; "Spider-Man" and "Assassin's" are one word each."""
    return _WORD.findall(text.lower())


def frequencies(titles: Iterable[list[str]]) -> Counter[str]:
    """In how many titles each word occurs; titles as of `words_of`."""
    return Counter(word for title in titles for word in set(title))


def candidate_words(title: list[str]) -> list[str]:
    """The words of a title that a query may take, each once, in their order; title as of `words_of`.

    Never: words with a digit (model numbers, "ps4"), single letters, Roman numerals, STOP_WORDS words.
    """
    return list(dict.fromkeys(word for word in title if _usable(word)))


def derive(words: list[str], frequency: Counter[str], seed: str) -> str:
    """The query of one purchase, its words in the order of the title; "" where the title has no candidate word.

    Words are drawn without replacement, by `frequency`. Platform words and colours alone are a query only where the
    title has nothing else (`is_weak`).

    Args:
        words: of the title, as of `candidate_words`.
        frequency: above 0 for each of them.
        seed: names the purchase.
    """
    weak = [word for word in words if word in WEAK]
    strong = [word for word in words if word not in WEAK][:EARLY]
    if not strong:
        strong, weak = weak, []
    if not strong:
        return ""
    rng = random.Random(seed)
    drawn = rng.random()
    count = next(count for count, share in WORD_COUNTS if drawn < share)
    # Smallest of -log(u) / weight first is weighted sampling without replacement (Efraimidis and Spirakis 2006).
    order = {word: -math.log(1 - rng.random()) / frequency[word] for word in strong + weak}
    first = min(strong, key=order.__getitem__)
    rest = sorted((word for word in order if word != first), key=order.__getitem__)
    chosen = {first, *rest[: count - 1]}
    return " ".join(word for word in words if word in chosen)


def is_weak(query: str) -> bool:
    """Whether a query names a platform or a colour and nothing else."""
    return all(word in WEAK for word in query.split())


class Matcher:
    """How many titles hold all words of a query."""

    def __init__(self, titles: Iterable[list[str]]) -> None:
        self.rows: dict[str, set[int]] = {}
        for row, title in enumerate(titles):
            for word in title:
                self.rows.setdefault(word, set()).add(row)

    def count(self, query: str) -> int:
        found = sorted((self.rows.get(word, set()) for word in words_of(query)), key=len)
        return len(set.intersection(*found)) if found else 0


def _usable(word: str) -> bool:
    return len(word) > 1 and word not in STOP_WORDS and not _NUMBER.search(word)
