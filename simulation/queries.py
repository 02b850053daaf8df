"""Generated queries: attributes of an item of the shop, worded as a shopper would.

Five ways of asking: just the kind of product (head), by attributes, by brand, by another word than the sellers use, and
by purpose. A query requires enough attributes that about `ShopSection.specific` items of the shop match, so that all
matching items can be judged in a shop of any size; head queries require none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genrecall.progress import OnProgress
from simulation.config import ShopSection
from simulation.shop import ATTRIBUTES, Items, Shop, line_name
from simulation.titles import choose, misspell
from simulation.vocabulary import AUDIENCES, COLOR_SYNONYMS, COLORS, KINDS

WAYS = ("attributes", "brand", "synonym", "use")
EXTRAS = ("color", "material", "size", "audience", "feature")  # attributes added until few enough items match
PURPOSES = ("{noun} for {use}", "something for {use}", "best {noun} for {use}", "good for {use}")


@dataclass(frozen=True)
class Queries:
    """n queries and the attributes that they require.

    Attributes:
        text: as typed.
        way: of asking: head or one of WAYS.
        kind: int32 [n] index into KINDS.
        required: attribute -> int32 [n], the required value, -1 where any will do.
        expected: float64 [n], how many items of the shop should match.
    """

    text: list[str]
    way: list[str]
    kind: np.ndarray
    required: dict[str, np.ndarray]
    expected: np.ndarray

    def __len__(self) -> int:
        return len(self.text)


def make_queries(shop: Shop, targets: Items, section: ShopSection, progress: OnProgress) -> Queries:
    """At most `section.query_count` different queries; each matches at least the item of `targets` it was made from."""
    random = shop.random("queries")
    rows: dict[str, tuple[str, int, dict[str, int], float]] = {}
    for row in range(len(targets)):
        if len(rows) == section.query_count:
            break
        head = random.random() < section.head_share
        way = "head" if head else WAYS[int(random.integers(len(WAYS)))]
        target = targets.take(np.array([row]))
        required, expected = _requirements(shop, target, way, section.specific, random)
        text = _text(shop, target, way, required, random)
        if random.random() < section.typo_share:
            text = misspell(text, int(random.integers(1 << 20)))
        rows.setdefault(text, (way, int(target.kind[0]), required, expected))
        progress("queries", len(rows), section.query_count)
    ways, kinds, requirements, expected_of = zip(*rows.values(), strict=True)
    columns = {
        name: np.array([required.get(name, -1) for required in requirements], dtype=np.int32) for name in ATTRIBUTES
    }
    return Queries(list(rows), list(ways), np.array(kinds, dtype=np.int32), columns, np.array(expected_of))


def _requirements(
    shop: Shop, target: Items, way: str, specific: int, random: np.random.Generator
) -> tuple[dict[str, int], float]:
    """The attributes that a query for the one item `target` requires, and how many items of the shop should match."""
    kind = int(target.kind[0])
    required: dict[str, int] = {}
    expected = shop.items * float(shop.kind_share[kind])
    if way == "head":
        return required, expected
    if way == "brand":
        required["brand"] = int(target.brand[0])
        expected *= shop.brand_share(int(shop.category_of[kind]), required["brand"])
    if way == "use":
        required["use"] = int(target.use[0])
        expected /= shop.choices["use"][kind]
    needed = 1 if way == "attributes" else 0
    for name in random.permutation(EXTRAS).tolist():
        if expected <= specific and needed <= 0:
            break
        if name == "audience" and not target.audience[0]:
            continue
        value = target.feature[0, 0] if name == "feature" else getattr(target, name)[0]
        required[name] = int(value)
        needed -= 1
        expected /= shop.choices[name][kind] / (2 if name == "feature" else 1)
    return required, expected


def _text(shop: Shop, target: Items, way: str, required: dict[str, int], random: np.random.Generator) -> str:
    kind = KINDS[int(target.kind[0])]
    noun = kind.noun if way in ("head", "attributes", "brand") else choose(random, kind.synonyms)
    if way == "head" and random.random() < 0.3:
        noun = choose(random, kind.synonyms)
    before: list[str] = []
    after: list[str] = []
    if "brand" in required:
        before.append(shop.brands[required["brand"]])
        if random.random() < 0.15:  # named without being required: shoppers do not tell the lines apart
            before.append(line_name(required["brand"], int(target.line[0])))
    if "color" in required:
        color = COLORS[required["color"]]
        (before if random.random() < 0.7 else after).append(
            COLOR_SYNONYMS.get(color, color) if random.random() < 0.5 else color
        )
    if "material" in required:
        before.append(kind.materials[required["material"]])
    if "feature" in required:
        (before if random.random() < 0.6 else after).append(kind.features[required["feature"]])
    if "audience" in required:
        audience = AUDIENCES[required["audience"]][1]
        (before if random.random() < 0.5 else after).append(
            audience if random.random() < 0.5 else f"for {audience.rstrip('s')}"
        )
    if "size" in required:
        after.append(kind.sizes[required["size"]])
    purpose = choose(random, PURPOSES).replace("{use}", kind.uses[required["use"]]) if way == "use" else "{noun}"
    if "{noun}" not in purpose:
        before, after = [], [*before, *after]
    return " ".join([purpose.replace("{noun}", " ".join([*before, noun])), *after]).lower()
