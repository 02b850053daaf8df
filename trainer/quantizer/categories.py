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
    items hands them to its parent; a top category below that has no code, and its items take the nearest one. Where
    more than `limit` paths are left, `min_items` rises by tenths until they fit.

    Deviation: the paper takes the shop's category ids as they are (1,711 of them in 2,048 codes).
    """
    paths = Counter(tuple(path[:depth]) for path in categories if path)
    table = _fold_rare(paths, min_items)
    while limit is not None and len(table) > limit:
        min_items += max(1, min_items // 10)
        table = _fold_rare(paths, min_items)
    return sorted(map(list, table))


def _fold_rare(paths: Counter[tuple[str, ...]], min_items: int) -> Counter[tuple[str, ...]]:
    """The paths that keep at least `min_items` items, with their items."""
    count = paths.copy()
    for length in range(max(map(len, count), default=0), 0, -1):
        for path in sorted(p for p in count if len(p) == length and count[p] < min_items):
            items = count.pop(path)
            if length > 1:
                count[path[:-1]] += items
    return count
