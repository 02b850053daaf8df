"""The attributes of every item, block by block: each block can be generated at any time from the seed alone.

Items are never all in memory: a pass over the shop goes block by block. Words belong to `vocabulary`, titles to
`titles`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulation import vocabulary
from simulation.vocabulary import KINDS

BLOCK = 10_000  # items generated at a time
LINES_PER_BRAND = 6
# Attributes of an item that a query may require.
ATTRIBUTES = ("brand", "color", "material", "size", "audience", "feature", "use")


@dataclass(frozen=True)
class Items:
    """Attributes of n items; int32 [n] each, indices into the lists of the item's kind.

    Attributes:
        number: of the item in the shop; its id follows from it.
        kind: index into KINDS.
        feature: int32 [n, 2], two different ones.
        line: which of the brand's product lines.
        popularity: float32 [n], above 0; shown as a count of ratings. Where too many items match, the most popular are
            judged.
    """

    number: np.ndarray
    kind: np.ndarray
    brand: np.ndarray
    color: np.ndarray
    material: np.ndarray
    size: np.ndarray
    audience: np.ndarray
    feature: np.ndarray
    use: np.ndarray
    line: np.ndarray
    popularity: np.ndarray

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: np.ndarray) -> Items:
        return Items(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


class Shop:
    """A shop of `items` items; everything follows from (items, seed)."""

    def __init__(self, items: int, seed: int) -> None:
        self.items, self.seed = items, seed
        self.categories = sorted({(kind.department, kind.category) for kind in KINDS})
        self.category_of = np.array([self.categories.index((kind.department, kind.category)) for kind in KINDS])
        random = self.random("shop")
        weights = 1 / (1 + random.permutation(len(KINDS))) ** 0.5  # some kinds sell more than others, none hardly
        self.kind_share = weights / weights.sum()
        self.brands = _brand_names(random, max(60, round(4 * items**0.5)))
        self.brand_home = random.integers(len(self.categories), size=(len(self.brands), 2))
        self.brand_weight = 1 / (1 + random.permutation(len(self.brands))) ** 0.6

    def random(self, *purpose: str | int) -> np.random.Generator:
        """A random stream for each purpose, so that the draws of one never shift those of another."""
        return np.random.default_rng([self.seed, self.items, *(_number(part) for part in purpose)])

    @cached_property
    def brands_of(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each category, its brands and their cumulative share: a brand is at home in one or two categories."""
        found = []
        for category in range(len(self.categories)):
            at_home = np.flatnonzero((self.brand_home == category).any(axis=1))
            brands = at_home if len(at_home) else np.array([category % len(self.brands)])
            share = self.brand_weight[brands] / self.brand_weight[brands].sum()
            found.append((brands, share.cumsum()))
        return found

    def brand_share(self, category: int, brand: int) -> float:
        brands, cumulative = self.brands_of[category]
        return float(np.diff(cumulative, prepend=0.0)[np.flatnonzero(brands == brand)[0]])

    @cached_property
    def choices(self) -> dict[str, np.ndarray]:
        """For each attribute but the brand, how many values each kind has: int [kinds]."""
        return {
            "color": np.full(len(KINDS), len(vocabulary.COLORS)),
            "material": np.array([len(kind.materials) for kind in KINDS]),
            "size": np.array([len(kind.sizes) for kind in KINDS]),
            "audience": np.array([kind.audiences for kind in KINDS]),
            "feature": np.array([len(kind.features) for kind in KINDS]),
            "use": np.array([len(kind.uses) for kind in KINDS]),
        }

    def blocks(self) -> Iterator[Items]:
        for first in range(0, self.items, BLOCK):
            yield self.block(first, min(BLOCK, self.items - first))

    def block(self, first: int, count: int) -> Items:
        """Items first ... first + count - 1; `first` is a multiple of BLOCK."""
        random = self.random("block", first)
        kind = np.searchsorted(self.kind_share.cumsum(), random.random(count)).clip(max=len(KINDS) - 1)
        brand = np.empty(count, dtype=np.int32)
        draw = random.random(count)
        for category, (brands, cumulative) in enumerate(self.brands_of):
            rows = self.category_of[kind] == category
            brand[rows] = brands[np.searchsorted(cumulative, draw[rows]).clip(max=len(brands) - 1)]
        drawn = {name: (random.random(count) * sizes[kind]).astype(np.int32) for name, sizes in self.choices.items()}
        features = self.choices["feature"][kind]
        second = (drawn["feature"] + 1 + (random.random(count) * (features - 1)).astype(np.int32)) % features
        return Items(
            number=np.arange(first, first + count, dtype=np.int32),
            kind=kind.astype(np.int32),
            brand=brand,
            color=drawn["color"],
            material=drawn["material"],
            size=drawn["size"],
            audience=drawn["audience"],
            feature=np.stack([drawn["feature"], second.astype(np.int32)], axis=1),
            use=drawn["use"],
            line=random.integers(LINES_PER_BRAND, size=count, dtype=np.int32),
            popularity=np.exp(random.normal(3.0, 1.6, size=count)).astype(np.float32),
        )


def item_id(number: int) -> str:
    return f"g{number:08}"


def line_name(brand: int, line: int) -> str:
    """A brand's product lines are its own choice of the names there are."""
    return vocabulary.SERIES[(brand * 7 + line * 11) % len(vocabulary.SERIES)]


def _brand_names(random: np.random.Generator, count: int) -> list[str]:
    """`count` different names, each pronounceable."""
    parts = (vocabulary.BRAND_STARTS, vocabulary.BRAND_MIDDLES, vocabulary.BRAND_ENDS)
    stems = np.array([start + middle + end for start in parts[0] for middle in parts[1] for end in parts[2]])
    stems = np.unique(stems)
    names = [str(stem) for stem in stems[random.permutation(len(stems))[:count]]]
    rest = count - len(names)  # a very large shop has more brands than stems: two stems make one
    names += [f"{stems[a]} {stems[-1 - a]}" for a in range(rest)]
    suffixes = random.integers(len(vocabulary.BRAND_SUFFIXES), size=count)
    return [name + vocabulary.BRAND_SUFFIXES[suffix] for name, suffix in zip(names, suffixes, strict=True)]


def _number(part: str | int) -> int:
    return part if isinstance(part, int) else int.from_bytes(part.encode()[:8].ljust(8), "big")
