"""What shoppers ask: wishes taken from a real item of the shop, worded their way, with few or many items that fit.

Five ways of asking: just the kind of product (head), by attributes, by brand, by another word than the sellers use, and
by what it is for. A query asks for enough that about `ShopSection.specific` items of the shop fit, so that judging the
items that fit stays possible in a shop of any size; head queries do not, as in life.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulation.config import ShopSection
from simulation.shop import ATTRIBUTES, Items, Shop, line_name
from simulation.vocabulary import AUDIENCES, COLOR_SYNONYMS, COLORS, KINDS
from simulation.wording import draw, misspell

WAYS = ("attributes", "brand", "synonym", "use")
EXTRAS = ("color", "material", "size", "audience", "feature")  # wishes added until few enough items fit
PURPOSES = ("{noun} for {use}", "something for {use}", "best {noun} for {use}", "good for {use}")


@dataclass(frozen=True)
class Queries:
    """n queries and their wishes.

    Attributes:
        text: what is typed.
        way: how it asks: head or one of WAYS.
        kind: int32 [n] index into KINDS.
        wishes: attribute -> int32 [n], the value wished for, -1 where anything goes.
        expected: float64 [n], how many items of the shop should fit.
    """

    text: list[str]
    way: list[str]
    kind: np.ndarray
    wishes: dict[str, np.ndarray]
    expected: np.ndarray

    def __len__(self) -> int:
        return len(self.text)


def make(shop: Shop, targets: Items, section: ShopSection, progress: Callable[[int], None]) -> Queries:
    """At most `section.query_count` different queries; each fits at least the item of `targets` it was taken from."""
    random = shop.random("queries")
    rows: dict[str, tuple[str, int, dict[str, int], float]] = {}
    for row in range(len(targets)):
        if len(rows) == section.query_count:
            break
        head = random.random() < section.head_share
        way = "head" if head else WAYS[int(random.integers(len(WAYS)))]
        target = targets.take(np.array([row]))
        wishes, expected = _wishes(shop, target, way, section.specific, random)
        text = _worded(shop, target, way, wishes, random)
        if random.random() < section.typo_share:
            text = misspell(text, int(random.integers(1 << 20)))
        rows.setdefault(text, (way, int(target.kind[0]), wishes, expected))
        progress(len(rows))
    ways, kinds, wished, expected_of = zip(*rows.values(), strict=True)
    columns = {name: np.array([wish.get(name, -1) for wish in wished], dtype=np.int32) for name in ATTRIBUTES}
    return Queries(list(rows), list(ways), np.array(kinds, dtype=np.int32), columns, np.array(expected_of))


def _wishes(
    shop: Shop, target: Items, way: str, specific: int, random: np.random.Generator
) -> tuple[dict[str, int], float]:
    """The wishes of a query for the one item `target`, and how many items of the shop should fit them."""
    kind = int(target.kind[0])
    wishes: dict[str, int] = {}
    expected = shop.items * float(shop.kind_share[kind])
    if way == "head":
        return wishes, expected
    if way == "brand":
        wishes["brand"] = int(target.brand[0])
        expected *= shop.brand_share(int(shop.category_of[kind]), wishes["brand"])
    if way == "use":
        wishes["use"] = int(target.use[0])
        expected /= shop.choices["use"][kind]
    needed = 1 if way == "attributes" else 0
    for name in random.permutation(EXTRAS).tolist():
        if expected <= specific and needed <= 0:
            break
        if name == "audience" and not target.audience[0]:
            continue
        value = target.feature[0, 0] if name == "feature" else getattr(target, name)[0]
        wishes[name] = int(value)
        needed -= 1
        expected /= shop.choices[name][kind] / (2 if name == "feature" else 1)
    return wishes, expected


def _worded(shop: Shop, target: Items, way: str, wishes: dict[str, int], random: np.random.Generator) -> str:
    kind = KINDS[int(target.kind[0])]
    noun = kind.noun if way in ("head", "attributes", "brand") else draw(random, kind.synonyms)
    if way == "head" and random.random() < 0.3:
        noun = draw(random, kind.synonyms)
    before: list[str] = []
    after: list[str] = []
    if "brand" in wishes:
        before.append(shop.brands[wishes["brand"]])
        if random.random() < 0.15:  # the line is said without being wished for: shoppers do not know them apart
            before.append(line_name(wishes["brand"], int(target.line[0])))
    if "color" in wishes:
        color = COLORS[wishes["color"]]
        (before if random.random() < 0.7 else after).append(
            COLOR_SYNONYMS.get(color, color) if random.random() < 0.5 else color
        )
    if "material" in wishes:
        before.append(kind.materials[wishes["material"]])
    if "feature" in wishes:
        (before if random.random() < 0.6 else after).append(kind.features[wishes["feature"]])
    if "audience" in wishes:
        said = AUDIENCES[wishes["audience"]][1]
        (before if random.random() < 0.5 else after).append(
            said if random.random() < 0.5 else f"for {said.rstrip('s')}"
        )
    if "size" in wishes:
        after.append(kind.sizes[wishes["size"]])
    purpose = draw(random, PURPOSES).replace("{use}", kind.uses[wishes["use"]]) if way == "use" else "{noun}"
    if "{noun}" not in purpose:
        before, after = [], [*before, *after]
    return " ".join([purpose.replace("{noun}", " ".join([*before, noun])), *after]).lower()
