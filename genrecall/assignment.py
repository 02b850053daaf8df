"""Assigns items to a codebook: the arrays of `quantizer.safetensors` and an item's vector -> its SID, in NumPy alone.

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

import numpy as np

from genrecall.errors import BundleError
from genrecall.sid import Prefixes, by_level

Arrays = Mapping[str, np.ndarray]
Path = Sequence[str]
CHUNK = 65536  # vectors encoded at a time
FITTED = "fitted."  # how the file names what only the trainer reads again


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
        self._prefixes = Prefixes.of(arrays["leaves"])
        self._vectors = node_vectors(arrays, self._prefixes)
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
            raise BundleError(f"{path} is not a quantizer ({error!r}): publish the bundle again") from None

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
            node = _forced_nodes(self._prefixes.code[0], forced[part])
            free = node < 0
            node[free] = nearest(x[free], self._vectors[0])
            for level in (1, 2):
                if residual:
                    x = x - self._vectors[level - 1][node]
                node = nearest_child(self._prefixes.start[level], self._vectors[level], node, x)
            out[part] = node
        return out


def nearest_child(start: np.ndarray, vectors: np.ndarray, parents: np.ndarray, x: np.ndarray) -> np.ndarray:
    """int64 [n]: the child of parents[i] whose vector is nearest to x[i]. One matrix product a distinct parent.

    start, vectors: of the children's level, see `Prefixes` and `node_vectors`.
    """
    out = np.empty(len(x), dtype=np.int64)
    order = np.argsort(parents, kind="stable")
    bounds = np.flatnonzero(np.diff(parents[order], prepend=-1))
    for rows in np.split(order, bounds[1:]) if len(order) else []:
        first, end = start[parents[rows[0]]], start[parents[rows[0]] + 1]
        out[rows] = first + nearest(x[rows], vectors[first:end])
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


def node_vectors(arrays: Arrays, prefixes: Prefixes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each level, float32 [nodes, d]: what a descending vector (or its residual) is compared with."""
    shared = "codebook1" in arrays
    return by_level(
        arrays[f"codebook{n}"][codes] if shared else arrays[f"centroids{n}"] for n, codes in enumerate(prefixes.code, 1)
    )


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


def _forced_nodes(codes: np.ndarray, forced: np.ndarray) -> np.ndarray:
    """Node of each forced level-1 code; -1 where it is free or no item of the codebook has that code."""
    at = np.searchsorted(codes, forced).clip(max=len(codes) - 1)
    return np.where(codes[at] == forced, at, -1)
