"""The parts that requests are split into, and which queries are held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from genrecall.data.splits import query_groups
from genrecall.records import Split

SLICE = 1 << 20  # requests processed together
TRAIN, DEV, TEST, NONE = range(4)


@dataclass(frozen=True)
class RequestSplit:
    """REQUESTS in three parts, each in the order of the table that was split.

    `dropped` counts those in none of them: with split=time, old requests whose query is judged in dev or test.
    """

    train: pa.Table
    dev: pa.Table
    test: pa.Table
    dropped: int = 0


def held_out(texts: pa.ChunkedArray, split: Split, queries: pa.Table) -> np.ndarray:
    """int8 [n]: DEV or TEST where a text is in the group of a query judged there, else TRAIN."""
    text_of = dict(zip(queries["query_id"].to_pylist(), queries["text"].to_pylist(), strict=True))
    judged = [
        (text_of[query], part)
        for part, judgments in ((DEV, split.dev), (TEST, split.test))
        for query in judgments["query_id"].unique().to_pylist()
    ]
    result = np.empty(len(texts), np.int8)
    for start in range(0, len(texts), SLICE):
        encoded = texts.slice(start, SLICE).combine_chunks().dictionary_encode()
        group = query_groups([*(text for text, _ in judged), *encoded.dictionary.to_pylist()])
        part_of = np.full(group.max() + 1, TRAIN, np.int8)
        part_of[group[: len(judged)]] = [part for _, part in judged]
        result[start : start + SLICE] = part_of[group[len(judged) :]][encoded.indices.to_numpy()]
    return result
