"""Items -> SIDs by the chosen quantizer, behind one interface.

Owns the order of things: categories -> codes (one file a kind) -> split of oversize SIDs -> arrays for new
items -> report.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from genrecall import files
from genrecall.assignment import FITTED, as_array, category_codes
from genrecall.config.quantizer import QuantizerKind, QuantizerSection
from genrecall.progress import Bars
from genrecall.sid import SidSpace
from trainer.quantizer.categories import category_table
from trainer.quantizer.hierarchical import fit_hierarchical
from trainer.quantizer.split import split_oversize
from trainer.quantizer.statistics import statistics
from trainer.quantizer.types import FitInput, QueryItemPairs


@dataclass(frozen=True)
class Fitted:
    """A fitted codebook.

    Attributes:
        kind: which quantizer made it.
        codes: int32 [n, 3], the SID of each item.
        level_sizes: codes a level.
        arrays: what `genrecall.assignment.assign` needs to place a new item.
        report: `statistics` of the codes, and how the fit went.
    """

    kind: str
    codes: np.ndarray
    level_sizes: tuple[int, int, int]
    arrays: dict[str, np.ndarray]
    report: dict[str, Any]

    @cached_property
    def space(self) -> SidSpace:
        return SidSpace.of(self.codes, self.level_sizes)

    def save(self, path: Path) -> None:
        """Write `quantizer.safetensors`, replacing what is there."""
        from safetensors.numpy import save_file

        own = {
            f"{FITTED}codes": self.codes,
            f"{FITTED}level_sizes": np.array(self.level_sizes, dtype=np.int64),
            f"{FITTED}report": as_array(self.report),
        }
        arrays = {name: np.ascontiguousarray(a) for name, a in {**self.arrays, **own}.items()}
        with files.replacing(path) as partial:
            save_file(arrays, partial)

    @classmethod
    def load(cls, path: Path) -> Fitted:
        from safetensors.numpy import load_file

        arrays = load_file(path)
        codes, sizes, report = (arrays.pop(f"{FITTED}{name}") for name in ("codes", "level_sizes", "report"))
        level_sizes = (int(sizes[0]), int(sizes[1]), int(sizes[2]))
        kind = arrays["kind"].tobytes().decode()
        return cls(kind, codes, level_sizes, arrays, json.loads(report.tobytes().decode()))


def fit(
    kind: QuantizerKind,
    vectors: np.ndarray,
    categories: Sequence[Sequence[str]],
    pairs: QueryItemPairs | tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None,
    section: QuantizerSection,
    seed: int,
    progress: bool = True,
    device: str = "cpu",
) -> Fitted:
    """SIDs for a catalogue; the same for the same arguments on the same machine.

    Args:
        kind: "cq_sid" or "hierarchical".
        vectors: float32 [n, D], one an item, n >= 1.
        categories: the category path of each item, general to specific; empty where unknown.
        pairs: relevant (query, item) pairs to learn from; None where there are none. Read by cq_sid alone.
        section: all the numbers.
        seed: of every draw.
        device: as `run.device`.

    Raises:
        ValueError: shapes that do not fit together, or a vector that is not finite.
    """
    pairs = QueryItemPairs(*pairs) if pairs is not None and len(pairs[1]) else None
    _check(vectors, categories, pairs)
    own = section.cq_sid if kind == "cq_sid" else section.hierarchical
    size1 = own.level_sizes[0] if kind == "cq_sid" else own.level1_size  # type: ignore[union-attr]
    limit = None if size1 == "auto" else int(size1)
    table = category_table(categories, section.category_min_items, section.category_depth, limit)
    data = FitInput(vectors, category_codes(table, categories), len(table), pairs)
    where = device
    if device != "cpu":
        from genrecall.devices import find_device

        where = str(find_device(device, "run.device"))
    with Bars(progress) as bar:
        if kind == "cq_sid":
            from trainer.quantizer.cq_sid import fit_cq_sid

            raw = fit_cq_sid(data, section, seed, bar, where)
        else:
            raw = fit_hierarchical(data, section, seed, bar, where)
    split = split_oversize(
        raw.codes, section.max_items_per_sid, section.max_groups, np.random.default_rng((seed, 9)), raw.level_sizes[2]
    )
    arrays = {
        "kind": as_array(kind),
        "categories": as_array(table if raw.guided else []),
        "leaves": split.leaves,
        "third": split.third,
        **raw.arrays,
    }
    sizes = (*raw.level_sizes[:2], split.size3)
    report = {"kind": kind, **statistics(split.codes, sizes, split.was_split), "fit": raw.notes}
    return Fitted(kind, split.codes, sizes, arrays, report)


def _check(vectors: np.ndarray, categories: Sequence[Sequence[str]], pairs: QueryItemPairs | None) -> None:
    if vectors.ndim != 2 or not len(vectors) or len(vectors) != len(categories):
        raise ValueError(
            f"vectors {vectors.shape} and {len(categories)} categories: one of each an item, at least one item"
        )
    if not np.isfinite(vectors).all():
        raise ValueError(f"the vector of item {np.argwhere(~np.isfinite(vectors))[0, 0]} is not finite")
    if pairs is None:
        return
    queries, items = len(pairs.query_vectors), len(vectors)
    for name, index, size in (("query_idx", pairs.query_idx, queries), ("item_idx", pairs.item_idx, items)):
        if index.min() < 0 or index.max() >= size:
            raise ValueError(f"{name} goes from {index.min()} to {index.max()}, but there are {size} rows")
    if not len(pairs.query_idx) == len(pairs.item_idx) == len(pairs.weight) or not (pairs.weight > 0).all():
        raise ValueError("query_idx, item_idx and weight must have one entry a pair, and weights be positive")
