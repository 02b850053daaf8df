"""Titles and texts as sellers write them: each in its own order, some shouting, few complete, rarely misspelt."""

from __future__ import annotations

from typing import Any

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
SHOUTING, PACK, MISSPELT = 0.04, 0.08, 0.007  # shares of titles
NO_CATEGORY, NO_BRAND, NAMES_USE = 0.02, 0.03, 0.5  # shares of items


def records(shop: Shop, items: Items) -> list[dict[str, Any]]:
    """One JSON-ready record for each item of a block; the same block gives the same words every time."""
    random = shop.random("words", int(items.number[0]))
    count = len(items)
    columns = zip(
        *(getattr(items, name).tolist() for name in items.__dataclass_fields__),
        random.integers(len(TITLES), size=count).tolist(),
        random.integers(len(GENERAL), size=count).tolist(),
        random.integers(100, 9999, size=count).tolist(),
        random.random((count, 6)).tolist(),
        strict=True,
    )
    return [_record(shop, *values) for values in columns]


def _record(
    shop: Shop,
    number: int,
    kind_index: int,
    brand_index: int,
    color: int,
    material: int,
    size: int,
    audience: int,
    feature: list[int],
    use: int,
    line: int,
    popularity: float,
    template: int,
    general: int,
    model: int,
    luck: list[float],
) -> dict[str, Any]:
    kind, brand = KINDS[kind_index], shop.brands[brand_index]
    words = {
        "b": brand,
        "s": line_name(brand_index, line),
        "n": f"{brand[0]}{kind.noun[0]}-{model}".upper(),
        "a": f"{AUDIENCES[audience][0]} " if AUDIENCES[audience][0] else "",
        "k": kind.noun.title(),
        "m": kind.materials[material].title(),
        "c": COLORS[color].title(),
        "z": kind.sizes[size],
        "f": kind.features[feature[0]].title(),
        "g": kind.features[feature[1]].title(),
    }
    title = TITLES[template].format(**words).replace("'S", "'s")
    if luck[0] < PACK:
        title = f"{title} (Pack of {2 + model % 3})"
    if luck[1] < SHOUTING:
        title = title.upper()
    if luck[2] < MISSPELT:
        title = misspell(title, model)
    text = [
        f"{kind.features[feature[0]].capitalize()} and {kind.features[feature[1]]} {kind.noun}"
        f" made of {kind.materials[material]}, in {COLORS[color]}, {kind.sizes[size]}.",
        GENERAL[general],
        f"Made for {kind.uses[use]}." if luck[3] < NAMES_USE else "",
    ]
    return {
        "item_id": item_id(number),
        "title": title,
        "category": [] if luck[4] < NO_CATEGORY else kind.path,
        "brand": "" if luck[5] < NO_BRAND else brand,
        "color": COLORS[color],
        "rating_count": int(popularity),
        "text": " ".join(part for part in text if part),
    }


def misspell(text: str, slip: int) -> str:
    """Two neighbouring letters change places; where depends on `slip`. The same text where it has none."""
    spots = [
        n for n in range(1, len(text) - 1) if text[n].isalpha() and text[n + 1].isalpha() and text[n] != text[n + 1]
    ]
    if not spots:
        return text
    n = spots[slip % len(spots)]
    return text[:n] + text[n + 1] + text[n] + text[n + 2 :]


def draw(random: np.random.Generator, values: tuple[str, ...] | list[str]) -> str:
    return values[int(random.integers(len(values)))]
