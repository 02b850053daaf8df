"""Which category paths get a level-1 code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

Paths = Sequence[Sequence[str]]


def category_table(
    categories: Paths, min_items: int, depth: int | None = None, limit: int | None = None
) -> list[list[str]]:
    """The category paths that own a level-1 code, sorted.

    An item counts for its whole path (its first `depth` names). From the deepest up, a path with fewer than `min_items`
    items hands them to its parent; a top category below that has no code, and its items take the nearest one. With more
    than `limit` paths left, the smallest (of equals, the last by name) go the same way one by one.

    Deviation: the paper takes the shop's category ids as they are (1,711 of them in 2,048 codes).
    """
    count = Counter(tuple(path[:depth]) for path in categories if path)
    for length in range(max(map(len, count), default=0), 0, -1):
        for path in sorted(p for p in count if len(p) == length and count[p] < min_items):
            _fold(count, path)
    while limit is not None and len(count) > limit:
        _fold(count, min(sorted(count, reverse=True), key=lambda p: count[p]))
    return sorted(map(list, count))


def _fold(count: Counter[tuple[str, ...]], path: tuple[str, ...]) -> None:
    items = count.pop(path)
    if len(path) > 1:
        count[path[:-1]] += items
