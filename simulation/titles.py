"""Titles and texts of items, in the varied style of sellers: nine templates, some in capitals, few misspelt."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from simulation.shop import Items, Shop, item_id, line_name
from simulation.vocabulary import AUDIENCES, COLORS, KINDS

# b brand, s product line, n model number, a audience, k kind, m material, c colour, z size, f and g features
TITLES = (
    "{b} {s} {a}{k}, {f}, {c}",
    "{a}{k} - {z} {m}, {f} and {g}, by {b} ({c})",
    "{b} {a}{m} {k} {z} | {f} & {g}",
    "{c} {m} {a}{k}, {z}, {f}",
    "{b} {n} {a}{k} {z} {c}",
    "{f} {a}{k} for Everyday Use, {m}, {z}, {c} - {b}",
    "{b} {s} {n} {m} {k}",
    "{b} {a}{k} ({c}, {z})",
    "{k}, {f}, {g}, {m}, {b} {s}",
)
GENERAL = (
    "Backed by a two year guarantee.",
    "Designed in small batches.",
    "Thoughtful packaging without plastic.",
    "Our customers come back for it.",
    "",
)
CAPITALS, PACK, MISSPELT = 0.04, 0.08, 0.007  # shares of titles
NO_CATEGORY, NO_BRAND, NAMES_USE = 0.02, 0.03, 0.5  # shares of items


class _Item(NamedTuple):
    """Attributes of one item, as `Items` has them, and what was drawn for its record."""

    number: int
    kind: int
    brand: int
    color: int
    material: int
    size: int
    audience: int
    feature: list[int]
    use: int
    line: int
    popularity: float
    template: int
    general: int
    model: int
    draws: list[float]  # uniform, one for each of the shares above


def item_records(shop: Shop, items: Items) -> list[dict[str, Any]]:
    """One JSON-ready record for each item of a block; the same block always gives the same records."""
    random = shop.random("words", int(items.number[0]))
    count = len(items)
    rows = zip(
        *(getattr(items, name).tolist() for name in items.__dataclass_fields__),
        random.integers(len(TITLES), size=count).tolist(),
        random.integers(len(GENERAL), size=count).tolist(),
        random.integers(100, 9999, size=count).tolist(),
        random.random((count, 6)).tolist(),
        strict=True,
    )
    return [_record(shop, _Item._make(row)) for row in rows]


def _record(shop: Shop, item: _Item) -> dict[str, Any]:
    kind, brand = KINDS[item.kind], shop.brands[item.brand]
    audience, color = AUDIENCES[item.audience][0], COLORS[item.color]
    first, second = (kind.features[feature] for feature in item.feature)
    words = {
        "b": brand,
        "s": line_name(item.brand, item.line),
        "n": f"{brand[0]}{kind.noun[0]}-{item.model}".upper(),
        "a": f"{audience} " if audience else "",
        "k": kind.noun.title(),
        "m": kind.materials[item.material].title(),
        "c": color.title(),
        "z": kind.sizes[item.size],
        "f": first.title(),
        "g": second.title(),
    }
    title = TITLES[item.template].format(**words).replace("'S", "'s")
    pack, capitals, misspelt, names_use, no_category, no_brand = item.draws
    if pack < PACK:
        title = f"{title} (Pack of {2 + item.model % 3})"
    if capitals < CAPITALS:
        title = title.upper()
    if misspelt < MISSPELT:
        title = misspell(title, item.model)
    text = [
        f"{first.capitalize()} and {second} {kind.noun}"
        f" made of {kind.materials[item.material]}, in {color}, {kind.sizes[item.size]}.",
        GENERAL[item.general],
        f"Made for {kind.uses[item.use]}." if names_use < NAMES_USE else "",
    ]
    return {
        "item_id": item_id(item.number),
        "title": title,
        "category": [] if no_category < NO_CATEGORY else kind.path,
        "brand": "" if no_brand < NO_BRAND else brand,
        "color": color,
        "rating_count": int(item.popularity),
        "text": " ".join(part for part in text if part),
    }


def misspell(text: str, number: int) -> str:
    """Swap two neighbouring letters, chosen by `number`; the same text where there is no such pair."""
    spots = [
        n for n in range(1, len(text) - 1) if text[n].isalpha() and text[n + 1].isalpha() and text[n] != text[n + 1]
    ]
    if not spots:
        return text
    n = spots[number % len(spots)]
    return text[:n] + text[n + 1] + text[n] + text[n + 2 :]


def choose(random: np.random.Generator, values: tuple[str, ...] | list[str]) -> str:
    return values[int(random.integers(len(values)))]
