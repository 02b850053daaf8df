"""Logged requests as arrays: users, texts, and the SIDs bought, clicked or shown. Pure NumPy behind `of`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrecall.decoding.user import FIELDS
from trainer.generator.examples import JudgedQueries
from trainer.generator.ragged import ragged

PURCHASED, CLICKED, EXPOSED, NOTHING = range(4)
OUTCOMES = {"purchased": PURCHASED, "clicked": CLICKED, "exposed": EXPOSED}


@dataclass(frozen=True)
class Requests:
    """R requests.

    Attributes:
        texts: the distinct texts; text: int64 [R], rows of it.
        profile: int64 [R, 2], positions in the profiles of gender and age band, -1 where unknown.
        recent: int64 [R, H], SIDs of the user's past, newest first, -1 where there is none.
        start: int64 [R + 1]; the outcomes of request r are rows start[r] to start[r + 1] of `item` and `sid` (int64,
            rows of the catalogue and of the SidSpace) and `outcome` (int8), best outcome first.
    """

    texts: list[str]
    text: np.ndarray
    profile: np.ndarray
    recent: np.ndarray
    start: np.ndarray
    item: np.ndarray
    sid: np.ndarray
    outcome: np.ndarray

    def __len__(self) -> int:
        return len(self.text)

    @classmethod
    def of(cls, table: pa.Table, items: pa.Table, rows: np.ndarray, profiles: tuple[str, ...]) -> Requests:
        """From REQUESTS; an item that is not in `items` (ITEMS) is left out. rows: int64 [items], SIDs of the items."""
        texts = table["text"].combine_chunks().dictionary_encode()
        known = pa.array(profiles, pa.string())
        profile = [_find(_named(field, table[field]), known) for field in FIELDS]
        parts = {name: _list_column(table, name, items) for name in ("recent", *OUTCOMES)}
        owner = np.concatenate([parts[name][0] for name in OUTCOMES])
        item = np.concatenate([parts[name][1] for name in OUTCOMES])
        outcome = np.repeat(np.array(list(OUTCOMES.values()), np.int8), [len(parts[name][0]) for name in OUTCOMES])
        order = np.lexsort((outcome, owner))
        return cls(
            texts.dictionary.to_pylist(),
            texts.indices.to_numpy().astype(np.int64),
            np.stack(profile, axis=1),
            _padded(*parts["recent"], len(table), rows),
            np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(table)))]),
            item[order],
            rows[item[order]],
            outcome[order],
        )

    @cached_property
    def positives(self) -> np.ndarray:
        """int64 [R]: how many outcomes of each request are purchases or clicks; they come first."""
        return np.diff(np.concatenate([[0], np.cumsum(self.outcome <= CLICKED)])[self.start])

    def take(self, chosen: np.ndarray) -> Requests:
        """The requests of rows `chosen`, int64 [m]."""
        _, flat = ragged(self.start, chosen)
        return Requests(
            self.texts,
            self.text[chosen],
            self.profile[chosen],
            self.recent[chosen],
            np.concatenate([[0], np.cumsum(np.diff(self.start)[chosen])]),
            *(array[flat] for array in (self.item, self.sid, self.outcome)),
        )

    def judged(self) -> JudgedQueries:
        """Each request as a query judged by what was bought or clicked; a request without either is not allowed."""
        keep = self.outcome <= CLICKED
        start = np.concatenate([[0], np.cumsum(keep)])[self.start]
        texts = [self.texts[t] for t in self.text]
        return JudgedQueries(texts, start, self.item[keep], np.ones(int(keep.sum())))

    def draw_positives(self, chosen: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """int64 [m, count] SIDs bought or clicked in requests `chosen`, drawn with replacement."""
        at = (rng.random((len(chosen), count)) * self.positives[chosen][:, None]).astype(np.int64)
        return self.sid[self.start[chosen][:, None] + at]

    def outcomes(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """SIDs int64 [m, M] and outcome int64 [m, M] of requests `chosen`, best first; -1 and NOTHING behind."""
        size = np.diff(self.start)[chosen]
        slot = np.arange(max(1, size.max(initial=0)))
        there = slot < size[:, None]
        at = np.where(there, self.start[chosen][:, None] + slot, 0)
        if not len(self.sid):
            return np.full(there.shape, -1), np.full(there.shape, NOTHING)
        return np.where(there, self.sid[at], -1), np.where(there, self.outcome[at].astype(np.int64), NOTHING)


def profiles_of(table: pa.Table) -> tuple[str, ...]:
    """The profile values that occur in REQUESTS, such as `gender=f`, sorted by field and value."""
    return tuple(
        value
        for field in FIELDS
        for value in sorted(_named(field, pa.chunked_array([pc.unique(table[field])], pa.string())).to_pylist())
        if value != f"{field}="
    )


def _named(field: str, values: pa.ChunkedArray) -> pa.Array:
    return pc.binary_join_element_wise(field, values.combine_chunks(), "=")


def _find(values: pa.Array, among: pa.Array) -> np.ndarray:
    """int64: the position of each value, -1 where it is not there."""
    return pc.fill_null(pc.index_in(values, value_set=among), -1).to_numpy(zero_copy_only=False).astype(np.int64)


def _list_column(table: pa.Table, name: str, items: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(request int64 [n], item int64 [n]) of the known items in a list column, in order."""
    lists = table[name].combine_chunks()
    owner = np.repeat(np.arange(len(table)), pc.list_value_length(lists).to_numpy(zero_copy_only=False))
    item = _find(pc.list_flatten(lists), items["item_id"].combine_chunks())
    return owner[item >= 0].astype(np.int64), item[item >= 0]


def _padded(owner: np.ndarray, item: np.ndarray, requests: int, rows: np.ndarray) -> np.ndarray:
    """int64 [requests, H] SIDs of the items, in order, -1 behind."""
    size = np.bincount(owner, minlength=requests)
    out = np.full((requests, int(size.max(initial=0))), -1, dtype=np.int64)
    slot = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size)
    out[owner, slot] = rows[item]
    return out
