"""Simulated behaviour: a stochastic search shows judged items, and users look, click and buy by their relevance.

The slate of a query is its judged items by BM25 over titles plus Gumbel noise, which is a Plackett-Luce policy: the
probability of each slate is known exactly. Clicks follow a position-based model (Craswell et al. 2008, "An experimental
comparison of click position-bias models"). The parameters are those of `simulation.config.ClickModel`; any figure that
rests on such logs is to be called simulated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genrecall.bm25_library import bm25s
from simulation.config import ClickModel
from simulation.ubi_log import Session, SessionRecorder

K1, B = 1.2, 0.75  # as Lucene's BM25Similarity
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class JudgedQuery:
    """A query and its judged items, in parallel: ids, titles, and label int [n], 0 exact ... 3 irrelevant."""

    text: str
    items: list[str]
    titles: list[str]
    label: np.ndarray


class Bm25:
    """BM25 over a fixed collection of titles, item id -> title."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self.row = {item: row for row, item in enumerate(titles)}
        # Lucene's scores times k1 + 1, which the noise of the click model is scaled for.
        self.index = bm25s.BM25(k1=K1, b=B, method="atire", idf_method="lucene", dtype="float64")
        self.index.index([_words(title) for title in titles.values()], show_progress=False)

    def scores(self, query: str, items: Sequence[str]) -> np.ndarray:
        """float64 [len(items)]."""
        words = [word for word in dict.fromkeys(_words(query)) if word in self.index.vocab_dict]
        if not words:
            return np.zeros(len(items))
        return self.index.get_scores(words)[[self.row[item] for item in items]]


def sample_sessions(
    scores: np.ndarray, label: np.ndarray, count: int, model: ClickModel, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`count` searches of one query.

    Args:
        scores: float [n] of the query's judged items under the search.
        label: int [n], 0 exact ... 3 irrelevant.

    Returns:
        slates int [count, s] rows of the items shown, best first; clicked and bought bool [count, s].
    """
    noisy = scores + model.noise * random.gumbel(size=(count, len(scores)))
    slates = np.argsort(-noisy, axis=1, kind="stable")[:, : model.slate]
    shown = label[slates]
    examined = random.random(slates.shape) < np.arange(1, slates.shape[1] + 1) ** -model.examination
    clicked = examined & (random.random(slates.shape) < np.array(model.click)[shown])
    bought = clicked & (random.random(slates.shape) < np.array(model.purchase)[shown])
    return slates, clicked, bought


def simulate_sessions(
    queries: Iterable[JudgedQuery], counts: Iterable[int], bm25: Bm25, model: ClickModel, recorder: SessionRecorder
) -> Iterator[Session]:
    """`counts[i]` sessions of query i, one query after the other.

    All randomness comes from `recorder.random`: the same queries, settings and generator give the same records.
    """
    for query, count in zip(queries, counts, strict=True):
        scores = bm25.scores(query.text, query.items)
        slates, clicked, bought = sample_sessions(scores, query.label, count, model, recorder.random)
        for slate, is_clicked, is_bought in zip(slates.tolist(), clicked, bought, strict=True):
            yield recorder.record(query.text, [query.items[row] for row in slate], is_clicked, is_bought)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
