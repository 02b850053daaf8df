"""A run: the ranked items of each query, in memory and as a TREC file.

Owns the shape and what is done to a single list (remove known items, cut). Fusing several belongs to `fusion`,
measuring to `metrics`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa

from genrecall.files import replacing


class Ranking(NamedTuple):
    """One query's list, best first; the order decides, scores only explain it (equal scores are common in a SID)."""

    item_ids: np.ndarray  # str [n], unique
    scores: np.ndarray  # float32 [n], descending


Run = dict[str, Ranking]
"""query_id -> its ranking. A query without any answer has an empty ranking, not a missing key."""

Channel = Callable[[pa.Table, int], Run]
"""(queries as records.QUERIES, depth) -> their run, at most `depth` items each."""

_SPACE = re.compile(r"[\s%]")
EMPTY = Ranking(np.empty(0, dtype=object), np.empty(0, dtype=np.float32))


def ranking(item_ids: np.ndarray, scores: np.ndarray) -> Ranking:
    return Ranking(np.asarray(item_ids, dtype=object), np.asarray(scores, dtype=np.float32))


def without(run: Run, known: Mapping[str, set[str]], depth: int) -> Run:
    """`run` with each query's known items removed from its ranking, then cut to `depth`."""
    out = {}
    for query_id, r in run.items():
        keep: np.ndarray | slice = slice(None)
        if removed := known.get(query_id):
            keep = np.array([item not in removed for item in r.item_ids], dtype=bool)
        out[query_id] = Ranking(r.item_ids[keep][:depth], r.scores[keep][:depth])
    return out


def top(scores: np.ndarray, depth: int) -> np.ndarray:
    """int64 rows of the `depth` greatest finite scores, best first, ties by row. scores: float [n]; -inf: absent."""
    count = min(depth, int(np.isfinite(scores).sum()))
    if count < len(scores) and count:
        # Every row at or above the score of the last place, so that ties on the edge also go by row.
        edge = np.partition(scores, len(scores) - count)[len(scores) - count]
        rows = np.flatnonzero(scores >= edge)
    else:
        rows = np.flatnonzero(np.isfinite(scores))
    return rows[np.argsort(-scores[rows], kind="stable")][:count]


def write_trec(run: Run, path: Path, tag: str) -> None:
    """TREC run lines `query Q0 item rank score tag`, published atomically.

    trec_eval orders by score alone: a score that equals the one before it is written as the next smaller number. White
    space in ids, and `%`, are percent-encoded. Queries with an empty ranking leave no line: `read_trec` takes the
    queries that it should find.
    """
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for query_id, r in run.items():
            last = math.inf
            for rank, (item_id, score) in enumerate(zip(r.item_ids, r.scores.tolist(), strict=True), start=1):
                last = min(float(f"{score:.9g}"), math.nextafter(last, -math.inf))
                file.write(f"{_encoded(query_id)} Q0 {_encoded(item_id)} {rank} {last!r} {tag}\n")


def read_trec(path: Path, query_ids: list[str]) -> Run:
    """The run of `query_ids` in a TREC file, as trec_eval reads it; ValueError names a malformed line.

    By score, whatever the ranks say; equal scores in descending order of the ids.
    """
    rows: dict[str, list[tuple[float, str]]] = {query_id: [] for query_id in query_ids}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                query, _, item, _, score, _ = map(unquote, line.split())
                row = float(score), item
            except ValueError:
                raise ValueError(f"{path}:{number}: not a TREC run line: {line.rstrip()!r}") from None
            if query in rows:
                rows[query].append(row)
    run = {}
    for query_id, found in rows.items():
        found.sort(reverse=True)
        run[query_id] = ranking(np.array([i for _, i in found], dtype=object), np.array([s for s, _ in found]))
    return run


def _encoded(text: str) -> str:
    return _SPACE.sub(lambda match: quote(match[0], safe=""), text)
