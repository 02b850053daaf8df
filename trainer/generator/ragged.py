"""Rows of different length in one array (CSR)."""

from __future__ import annotations

import numpy as np


def ragged(start: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(position in `rows` int64 [m], index int64 [m]) of every element of some rows, int64 [n], repeats allowed.

    start: int64 [rows + 1]; the elements of row r are start[r] to start[r + 1].
    """
    size = np.diff(start)[rows]
    shift = start[rows] - np.concatenate([[0], np.cumsum(size)[:-1]])
    return np.repeat(np.arange(len(rows)), size), np.repeat(shift, size) + np.arange(size.sum())
