"""Simulated behaviour: a known, stochastic search shows judged items, and shoppers look, click and buy by their grade.

The slate of a query is its judged items by BM25 over titles plus Gumbel noise, which is a Plackett-Luce policy: how
likely each slate was is known exactly. Clicks follow a position-based model (Craswell et al. 2008, "An experimental
comparison of click position-bias models"). Every number is in `simulation.config.ClickModel`; every figure drawn
from such logs is to be called simulated.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from genrecall.data.folder import json_lines, timestamp
from simulation.config import ClickModel

START = datetime(2025, 1, 1, tzinfo=UTC)
READING_S = 4  # seconds a shopper spends on each item
SESSIONS_A_CLIENT = 4
K1, B = 1.2, 0.75  # as Lucene's BM25Similarity
_WORD = re.compile(r"\w+")
Session = tuple[dict[str, Any], list[dict[str, Any]]]  # a row of ubi_queries, and its rows of ubi_events


@dataclass(frozen=True)
class JudgedQuery:
    """A query and its judged items, in parallel: ids, titles, and label int [n], 0 exact ... 3 irrelevant."""

    text: str
    items: list[str]
    titles: list[str]
    label: np.ndarray


class Bm25:
    """BM25 with the document frequencies of a fixed collection of titles."""

    def __init__(self, titles: Iterator[str]) -> None:
        self.frequency: Counter[str] = Counter()
        self.count, length = 0, 0
        for title in titles:
            words = _words(title)
            self.frequency.update(set(words))
            self.count += 1
            length += len(words)
        self.average = length / max(1, self.count)

    def scores(self, query: str, titles: Sequence[str]) -> np.ndarray:
        """float64 [len(titles)]."""
        idf = {word: self._idf(word) for word in set(_words(query))}
        result = np.zeros(len(titles))
        for row, title in enumerate(titles):
            words = _words(title)
            norm = K1 * (1 - B + B * len(words) / self.average)
            times = Counter(word for word in words if word in idf)
            result[row] = sum(idf[word] * n * (K1 + 1) / (n + norm) for word, n in times.items())
        return result

    def _idf(self, word: str) -> float:
        n = self.frequency[word]
        return math.log(1 + (self.count - n + 0.5) / (n + 0.5))


def sessions(
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
    looked = random.random(slates.shape) < np.arange(1, slates.shape[1] + 1) ** -model.examination
    clicked = looked & (random.random(slates.shape) < np.array(model.click)[shown])
    bought = clicked & (random.random(slates.shape) < np.array(model.purchase)[shown])
    return slates, clicked, bought


class Log:
    """Numbers sessions and writes them as UBI 1.3 records."""

    def __init__(self, sessions: int, days: int, random: np.random.Generator) -> None:
        self.random = random
        self.clients = max(1, sessions // SESSIONS_A_CLIENT)
        self.seconds = days * 86_400
        self.number = 0

    def record(self, text: str, items: list[str], clicked: np.ndarray, bought: np.ndarray) -> Session:
        """One search. items: as shown; clicked, bought: bool [s]."""
        self.number += 1
        start = START + timedelta(milliseconds=int(self.random.integers(self.seconds * 1000)))
        session = {
            "query_id": f"s{self.number:08}",
            "client_id": f"c{int(self.random.integers(self.clients)):07}",
        }
        query = {
            **session,
            "application": "simulated",
            "user_query": text,
            "timestamp": timestamp(start),
            "object_id_field": "item_id",
            "query_response_hit_ids": items,
        }
        events = [
            {
                **session,
                "application": "simulated",
                "action_name": action,
                "timestamp": timestamp(start + timedelta(seconds=READING_S * (int(rank) + 1 + late))),
                "user_query": text,
                "event_attributes": {
                    "object": {"object_id": items[rank], "object_id_field": "item_id"},
                    "position": {"ordinal": int(rank) + 1},
                },
            }
            for action, happened, late in (("click", clicked, 0), ("purchase", bought, len(items)))
            for rank in np.flatnonzero(happened)
        ]
        return query, events


def simulate(
    queries: Iterable[JudgedQuery], traffic: Iterable[int], bm25: Bm25, model: ClickModel, log: Log
) -> Iterator[Session]:
    """Every search of every query, one query after the other; `traffic`: how often each is asked.

    All chance comes from `log.random`: the same queries, settings and generator give the same records.
    """
    for query, times in zip(queries, traffic, strict=True):
        scores = bm25.scores(query.text, query.titles)
        slates, clicked, bought = sessions(scores, query.label, times, model, log.random)
        for slate, is_clicked, is_bought in zip(slates.tolist(), clicked, bought, strict=True):
            yield log.record(query.text, [query.items[row] for row in slate], is_clicked, is_bought)


def write(made: Iterable[Session], folder: Path, progress: Callable[[int], None]) -> dict[str, int]:
    """ubi_queries.jsonl.gz and ubi_events.jsonl.gz; returns how many sessions, clicks and purchases."""
    count, actions = 0, Counter({"click": 0, "purchase": 0})
    with (
        json_lines(folder / "ubi_queries.jsonl.gz") as write_query,
        json_lines(folder / "ubi_events.jsonl.gz") as write_event,
    ):
        for count, (query, events) in enumerate(made, 1):
            write_query(query)
            for event in events:
                write_event(event)
                actions[event["action_name"]] += 1
            progress(count)
    return {"sessions": count, "clicks": actions["click"], "purchases": actions["purchase"]}


def shares(expected: np.ndarray) -> np.ndarray:
    """float64 [queries]: how much of the traffic each query has. Broad queries come first; then it thins out (Zipf)."""
    rank = np.empty(len(expected))
    rank[np.argsort(-expected, kind="stable")] = np.arange(len(expected))
    weight = 1 / (rank + 10) ** 0.9
    return weight / weight.sum()


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
