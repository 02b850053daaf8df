"""How an item joins a codebook: the arrays of `quantizer.safetensors` and an item's vector -> its SID, in numpy alone.

Owns the layout of those arrays and the descent from the root to a SID that exists; fitting them is the trainer's.
A new item always gets a SID that some item already has: at each level it takes the nearest of the codes that occur
under its prefix. Where that SID was split for size, it joins the group that the fit named for new items.

Arrays:
    kind        uint8, the name in UTF-8.
    categories  uint8, UTF-8 JSON: a list of category paths; entry c owns level-1 code c. Empty where level 1 is free.
    leaves      int32 [m, 3], the SIDs before the split, sorted.
    third       int32 [m], the third code that a new item of a leaf gets.
    encoder.{0,1}.{weight,bias} float32, of `cq_sid` alone: vectors first become W1 relu(W0 x + b0) + b1.
Then either residual codes: codebook1, codebook2, codebook3 float32 [K, d], shared by all prefixes;
or a tree: centroids1 [n1, d], centroids2 [n2, d], centroids3 [m, d] float32, one a node, nodes sorted by prefix.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from genrecall.errors import BundleError

Arrays = Mapping[str, np.ndarray]
Path = Sequence[str]
CHUNK = 65536  # vectors encoded at a time
FITTED = "fitted."  # how the file names what only the trainer reads again


@dataclass(frozen=True)
class Level:
    """The nodes of one level, sorted by prefix.

    Attributes:
        codes: int32 [n], the last code of each node's prefix.
        first: int64 [parents + 1]; node p of the level above has the children first[p] .. first[p + 1] - 1.
        vectors: float32 [n, d], what a descending vector (or its residual) is compared with.
    """

    codes: np.ndarray
    first: np.ndarray
    vectors: np.ndarray


def assign(arrays: Arrays, vectors: np.ndarray, categories: Sequence[Path]) -> np.ndarray:
    """int32 [n, 3]: a SID of the codebook for each item, as `Assigner` gives it to many calls."""
    return Assigner(arrays)(vectors, categories)


class Assigner:
    """Places items in one codebook; what follows from its arrays alone is made once. Safe to call from any thread.

    Args:
        arrays: what `trainer.quantizer.fit` returned as `Fitted.arrays`.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self._tree = levels(arrays)
        self._categories = text(arrays["categories"])

    @classmethod
    def load(cls, path: pathlib.Path) -> Assigner:
        """From `quantizer.safetensors`. Raises BundleError for a file that is missing or damaged."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "numpy") as file:
                names = file.keys()
                return cls({name: file.get_tensor(name) for name in names if not name.startswith(FITTED)})
        except (OSError, SafetensorError, KeyError) as error:
            raise BundleError(f"{path} is no quantizer ({error!r}): publish the bundle again") from None

    def __call__(self, vectors: np.ndarray, categories: Sequence[Path]) -> np.ndarray:
        """int32 [n, 3]: a SID of the codebook for each item.

        Args:
            vectors: float32 [n, D] of the same encoder.
            categories: the category path of each item, general to specific, empty where unknown; a path that the
                codebook does not know counts as its longest known beginning.
        """
        leaf = self._nearest_leaf(vectors, category_codes(self._categories, categories))
        codes = self._arrays["leaves"][leaf].astype(np.int32)
        codes[:, 2] = self._arrays["third"][leaf]
        return codes

    def _nearest_leaf(self, vectors: np.ndarray, forced: np.ndarray) -> np.ndarray:
        """int64 [n]: row of `leaves` for each vector. forced: int64 [n], the level-1 code, or -1 for the nearest."""
        residual = "codebook1" in self._arrays
        out = np.empty(len(vectors), dtype=np.int64)
        for start in range(0, len(vectors), CHUNK):
            part = slice(start, start + CHUNK)
            x = encode(self._arrays, vectors[part])
            node = _forced_nodes(self._tree[0], forced[part])
            free = node < 0
            node[free] = nearest_child(self._tree[0], np.zeros(free.sum(), dtype=np.int64), x[free])
            for above, level in pairwise(self._tree):
                if residual:
                    x = x - above.vectors[node]
                node = nearest_child(level, node, x)
            out[part] = node
        return out


def nearest_child(level: Level, parents: np.ndarray, x: np.ndarray) -> np.ndarray:
    """int64 [n]: the child of parents[i] whose vector is nearest to x[i]. One matrix product a distinct parent."""
    out = np.empty(len(x), dtype=np.int64)
    order = np.argsort(parents, kind="stable")
    starts = np.flatnonzero(np.diff(parents[order], prepend=-1))
    for rows in np.split(order, starts[1:]) if len(order) else []:
        first, last = level.first[parents[rows[0]]], level.first[parents[rows[0]] + 1]
        out[rows] = first + nearest(x[rows], level.vectors[first:last])
    return out


def nearest(x: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """int64 [n]: row of `vectors` [k, d] nearest to each row of `x` [n, d] (Euclidean distance, the first of ties)."""
    half = 0.5 * np.einsum("kd,kd->k", vectors, vectors)
    return np.argmax(x @ vectors.T - half, axis=1)


def encode(arrays: Arrays, vectors: np.ndarray) -> np.ndarray:
    """float32 [n, d]: through the encoder of CQ-SID, or as they are where there is none."""
    if "encoder.0.weight" not in arrays:
        return vectors
    hidden = np.maximum(vectors @ arrays["encoder.0.weight"].T + arrays["encoder.0.bias"], 0)
    return hidden @ arrays["encoder.1.weight"].T + arrays["encoder.1.bias"]


def levels(arrays: Arrays) -> tuple[Level, Level, Level]:
    """The three levels of the tree that the leaves span."""
    leaves = arrays["leaves"]
    one, two = np.unique(leaves[:, :1], axis=0), np.unique(leaves[:, :2], axis=0)
    parents2 = np.searchsorted(one[:, 0], two[:, 0])
    width = int(leaves[:, 1].max()) + 1
    parents3 = np.searchsorted(_pack(two, width), _pack(leaves[:, :2], width))
    parents = (np.zeros(len(one), dtype=np.int64), parents2, parents3)
    counts = (1, len(one), len(two))
    out = []
    for i, nodes in enumerate((one, two, leaves)):
        codes = nodes[:, -1]
        shared = f"codebook{i + 1}"
        vectors = arrays[shared][codes] if shared in arrays else arrays[f"centroids{i + 1}"]
        out.append(Level(codes, np.searchsorted(parents[i], np.arange(counts[i] + 1)), vectors))
    return out[0], out[1], out[2]


def category_codes(known: Sequence[Path], categories: Sequence[Path]) -> np.ndarray:
    """int64 [n]: the position in `known` of each path's longest known beginning, -1 where there is none."""
    table = {tuple(path): code for code, path in enumerate(known)}
    seen: dict[tuple[str, ...], int] = {}
    for path in map(tuple, categories):
        if path not in seen:
            seen[path] = next((table[path[:d]] for d in range(len(path), 0, -1) if path[:d] in table), -1)
    return np.fromiter((seen[tuple(path)] for path in categories), dtype=np.int64, count=len(categories))


def text(array: np.ndarray) -> list[list[str]]:
    """The category paths that `as_array` wrote."""
    paths: list[list[str]] = json.loads(array.tobytes().decode())
    return paths


def as_array(value: object) -> np.ndarray:
    """uint8 [bytes]: a string as UTF-8, anything else as UTF-8 JSON, since safetensors holds numbers alone."""
    content = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return np.frombuffer(content.encode(), dtype=np.uint8).copy()


def _forced_nodes(level: Level, forced: np.ndarray) -> np.ndarray:
    """Node of each forced level-1 code; -1 where it is free or no item of the codebook has that code."""
    at = np.searchsorted(level.codes, forced).clip(max=len(level.codes) - 1)
    return np.where(level.codes[at] == forced, at, -1)


def _pack(pairs: np.ndarray, width: int) -> np.ndarray:
    return pairs[:, 0].astype(np.int64) * width + pairs[:, 1]
