"""A shop as its owner has it: Shopify's export of products and a log of User Behavior Insights. All of it simulated.

`python -m tests.e2e.shopify FOLDER` writes both files.
"""

# ruff: noqa: E501 - a row a line
import csv
import json
import random
import sys
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

COLUMNS = [
    "Handle", "Title", "Body (HTML)", "Vendor", "Product Category", "Type", "Tags", "Published", "Option1 Name", "Option1 Value",
    "Variant SKU", "Variant Grams", "Variant Inventory Qty", "Variant Price", "Variant Compare At Price", "Variant Barcode",
    "Image Src", "Image Position", "Image Alt Text", "Gift Card", "SEO Title", "Google Shopping / Gender", "Variant Weight Unit", "Status",
]  # fmt: skip
THINGS = {
    "Sneakers": "Apparel & Accessories > Shoes", "Boots": "Apparel & Accessories > Shoes", "Sandals": "Apparel & Accessories > Shoes",
    "Backpack": "Luggage & Bags", "Tote": "Luggage & Bags", "Wallet": "Luggage & Bags",
    "Mug": "Home & Garden > Kitchen", "Pan": "Home & Garden > Kitchen", "Lamp": "Home & Garden > Lighting",
}  # fmt: skip
COLOURS = ("Red", "Blue", "Green", "Black", "White")
MATERIALS = ("Leather", "Canvas", "Steel", "Cotton", "Oak")
VENDORS = ("Acme", "Bonne Nuit", "Çelik & Sons", "Delta")
DAYS, SEARCHES, SHOWN = 30, 1500, 12


def write(folder: Path, seed: int = 13) -> tuple[Path, Path]:
    """The catalogue (225 products) and the log, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    products = [
        {"handle": f"{material}-{colour}-{thing}".lower(), "words": {material.lower(), colour.lower(), thing.lower()}, "thing": thing,
         "title": f"{colour} {material} {thing}", "new": chance.random() < 0.3}
        for thing, colour, material in product(THINGS, COLOURS, MATERIALS)
    ]  # fmt: skip
    catalogue, log = folder / "products_export.csv", folder / "ubi_queries_events.ndjson"
    _write_catalogue(catalogue, products, chance)
    _write_log(log, products, chance)
    return catalogue, log


def _write_catalogue(path: Path, products: list[dict], chance: random.Random) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        for number, one in enumerate(products):
            first = {
                "Handle": one["handle"], "Title": one["title"], "Vendor": chance.choice(VENDORS), "Type": one["thing"],
                "Body (HTML)": f"<p>A {one['title'].lower()} &amp; a box.</p>\n<ul><li>Made to last, or \"longer\"</li></ul>",
                "Product Category": f"{THINGS[one['thing']]} > {one['thing']}", "Tags": "gift, new" if one["new"] else "gift",
                "Published": "true", "Gift Card": "false", "Status": "active",
            }  # fmt: skip
            price = f"{5 + number % 40}.90"
            for row, size in enumerate(("S", "M")):
                variant = {
                    "Handle": one["handle"], "Option1 Name": "Size", "Option1 Value": size, "Variant SKU": f"{number:04}-{size}",
                    "Variant Inventory Qty": str(number % 7), "Variant Price": price, "Image Position": str(row + 1),
                    "Image Src": f"https://cdn.shop.example/{one['handle']}-{row}.jpg",
                }  # fmt: skip
                rows.writerow(first | variant if row == 0 else variant)
            rows.writerow({"Handle": one["handle"], "Image Src": f"https://cdn.shop.example/{one['handle']}-2.jpg"})


def _write_log(path: Path, products: list[dict], chance: random.Random) -> None:
    """Searches of two words; what matches both is shown first, and clicked more; new products are shown from day 20 on."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    queries = [" ".join(words) for words in product(map(str.lower, COLOURS), map(str.lower, THINGS))]
    queries += [" ".join(words) for words in product(map(str.lower, MATERIALS), map(str.lower, THINGS))]
    with path.open("w", encoding="utf-8") as file:

        def add(index: str, row: dict) -> None:
            file.write(
                json.dumps({"index": {"_index": index, "_id": f"{index}-{row['query_id']}-{row['timestamp']}"}}) + "\n"
            )
            file.write(json.dumps(row) + "\n")

        for number in range(SEARCHES):
            day = DAYS * number / SEARCHES
            text = queries[min(int(chance.expovariate(0.07)), len(queries) - 1)]
            there = [one for one in products if day >= 20 or not one["new"]]
            matches = [len(one["words"] & set(text.split())) for one in there]
            order = sorted(range(len(there)), key=lambda at: (-matches[at], chance.random()))[:SHOWN]
            time, client = start + timedelta(days=day), f"client-{chance.randrange(200)}"
            about = {"application": "shop", "query_id": f"q{number}", "client_id": client}
            shown = [there[at]["handle"] for at in order]
            add(
                "ubi_queries",
                {**about, "user_query": text, "timestamp": time.isoformat(), "query_response_hit_ids": shown},
            )
            for rank, at in enumerate(order):
                if matches[at] == 2 and chance.random() < 0.6 / (1 + rank) ** 0.5:
                    click = (time + timedelta(seconds=5 + rank)).isoformat()
                    where = {
                        "object": {"object_id": there[at]["handle"], "object_id_field": "handle"},
                        "position": {"ordinal": rank},
                    }
                    add("ubi_events", {**about, "action_name": "click", "timestamp": click, "event_attributes": where})
                    if chance.random() < 0.2:
                        bought = (time + timedelta(seconds=60 + rank)).isoformat()
                        add(
                            "ubi_events",
                            {**about, "action_name": "purchase", "timestamp": bought, "event_attributes": where},
                        )


if __name__ == "__main__":
    print(*write(Path(sys.argv[1])), sep="\n")
