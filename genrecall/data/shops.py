"""Exports of shop systems in which a product is more than one row, or a cell more than one path.

Shopify repeats the handle of a product in a row for each variant and image; WooCommerce has rows of variations, and
several paths in a cell; Magento has rows of store views, and several paths in a cell; BigCommerce has rows of SKUs.
Everything else about these files is found by the names of their columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genrecall.data.columns import ITEM, find_one, plain
from genrecall.data.rejects import Rejects
from genrecall.data.row import Row

Fold = Callable[[Iterable[Row], dict[str, str], Rejects], Iterator[Row]]
PARENT = "__parentId"  # in the lines of Shopify's bulk operations
_COMMA = re.compile(r"(?<!\\),\s*")


@dataclass(frozen=True)
class Shop:
    """A shop system.

    Attributes:
        name: for people.
        needs: columns (`plain`) that its exports have.
        fields: field of an item -> its columns (`plain`), the likeliest first; in place of the usual names.
        separator: between the names of a category path.
        fold: rows of the file -> rows of products. Called with the rows, plain name -> column, and the rejects, which
            count the rows that belong to another.
    """

    name: str
    needs: frozenset[str]
    fields: dict[str, str]
    separator: str
    fold: Fold


def shop_of(columns: Mapping[str, int], values: Sequence[Any]) -> tuple[Shop, dict[str, str]] | None:
    """The shop system whose export has these columns, and its columns by their plain names; None for other files.

    WooCommerce writes the names of columns in the language of the shop, and the types of products in English.

    Args:
        columns: `columns_of` the first rows.
        values: those rows.
    """
    by_name = {plain(column): column for column in columns}
    if PARENT in columns:
        return BULK_OPERATION, by_name
    if shop := next((shop for shop in SHOPS if shop.needs <= by_name.keys()), None):
        return shop, by_name
    if kinds := next((column for column in [*columns][1:3] if _is_woocommerce(values, column)), None):
        category = find_one(columns, ITEM["category"])
        return WOOCOMMERCE, {**by_name, "type": kinds, **({"categories": category} if category else {})}
    return None


def _is_woocommerce(values: Sequence[Any], column: str) -> bool:
    """Whether a column holds the types of WooCommerce's products: `variable`, `simple, virtual`, extensions' own."""
    texts = (str(value.get(column) or "") for value in values if isinstance(value, dict))
    found = {word.strip() for text in texts for word in text.split(",")} - {""}
    return bool(found & {"variable", "variation"}) and all(word.islower() and " " not in word for word in found)


def _fold_shopify(rows: Iterable[Row], columns: dict[str, str], rejects: Rejects) -> Iterator[Row]:
    """Rows of one handle are one product: its first row, with the option values of the others."""
    handle, title = columns.get("handle", columns.get("url_handle", "")), columns["title"]
    options = [column for name, column in columns.items() if re.fullmatch(r"option\d_value", name)]
    product: Row | None = None
    for row in rows:
        if row.fault:
            yield row
            continue
        value = row.value
        named = value.get(handle)
        if product is not None and (named == product.value.get(handle) if named else not value.get(title)):
            rejects.leave_out("items", "a variant or picture of the product above")
            for option in options:
                _add(product.value, option, value.get(option))
            continue
        if product is not None:
            yield product
        product = Row(row.place, row.line, {**value})
        for option in options:
            if value.get(option) == "Default Title":
                product.value[option] = None
    if product is not None:
        yield product


def _fold_woocommerce(rows: Iterable[Row], columns: dict[str, str], rejects: Rejects) -> Iterator[Row]:
    """Rows of variations belong to their parents, which list the values of their attributes."""
    kind, category = columns["type"], columns.get("categories", "")
    for row in rows:
        if not row.fault:
            if "variation" in str(row.value.get(kind) or "").casefold():
                rejects.leave_out("items", "a variation of a product")
                continue
            _split(row.value, category)
        yield row


def _fold_prestashop(rows: Iterable[Row], columns: dict[str, str], rejects: Rejects) -> Iterator[Row]:
    """The categories of a product are a list in a cell."""
    for row in rows:
        if not row.fault:
            _split(row.value, columns["categories_x_y_z"])
        yield row


def _fold_bigcommerce(rows: Iterable[Row], columns: dict[str, str], rejects: Rejects) -> Iterator[Row]:
    """Rows of SKUs and rules belong to the product above; a product's categories are divided by semicolons."""
    kind, category = columns["item_type"], columns.get("category", "")
    for row in rows:
        if not row.fault:
            if str(row.value.get(kind) or "").strip().casefold() not in ("product", ""):
                rejects.leave_out("items", "an SKU or rule of the product above")
                continue
            if isinstance(text := row.value.get(category), str):
                row.value[category] = text.split(";")
        yield row


def _fold_wordpress(rows: Iterable[Row], columns: dict[str, str], rejects: Rejects) -> Iterator[Row]:
    """Of WordPress's export, the posts that are products, and of their terms the categories."""
    kind, terms = columns["post_type"], columns.get("category", "")
    for row in rows:
        if not row.fault:
            if row.value.get(kind) != "product":
                rejects.leave_out("items", "a post that is no product")
                continue
            held = row.value.get(terms)
            of = [term for term in (held if isinstance(held, list) else [held]) if isinstance(term, dict)]
            row.value[terms] = [term for term in of if term.get("@domain") == "product_cat"]
        yield row


def _fold_bulk_operation(rows: Iterable[Row], columns: dict[str, str], rejects: Rejects) -> Iterator[Row]:
    """Lines of variants and pictures name the product that they belong to."""
    for row in rows:
        if not row.fault and isinstance(row.value, dict) and row.value.get(PARENT):
            rejects.leave_out("items", "a variant or picture of a product")
            continue
        yield row


def _fold_magento(rows: Iterable[Row], columns: dict[str, str], rejects: Rejects) -> Iterator[Row]:
    """Rows of store views repeat a product; Magento 1 also has rows without an SKU for further values."""
    sku, category = columns["sku"], columns.get("categories", columns.get("category", ""))
    store = columns.get("store_view_code", columns.get("store", ""))
    for row in rows:
        if not row.fault:
            if row.value.get(store):
                rejects.leave_out("items", "a store view of a product")
                continue
            if not row.value.get(sku):
                rejects.leave_out("items", "further values of the product above")
                continue
            _split(row.value, category)
        yield row


def _split(value: dict[str, Any], column: str) -> None:
    if isinstance(text := value.get(column), str):
        value[column] = [path.replace("\\,", ",") for path in _COMMA.split(text)]


def _add(value: dict[str, Any], column: str, more: Any) -> None:
    held = value.get(column)
    values = held if isinstance(held, list) else [held] if held else []
    if more and more not in values:
        value[column] = [*values, more]


WOOCOMMERCE = Shop(
    "WooCommerce",
    frozenset({"type", "sku", "name", "published"}),
    {"id": "id sku"},
    ">",
    _fold_woocommerce,
)
BULK_OPERATION = Shop("Shopify", frozenset(), {}, ">", _fold_bulk_operation)
SHOPS = (
    Shop(
        "Shopify",
        frozenset({"handle", "title", "vendor"}),
        {"id": "id handle", "category": "product_category standard_product_type type custom_product_type"},
        ">",
        _fold_shopify,
    ),
    Shop(
        "Shopify",
        frozenset({"url_handle", "title", "vendor"}),
        {"id": "id url_handle", "category": "product_category type"},
        ">",
        _fold_shopify,
    ),
    WOOCOMMERCE,
    Shop(
        "WordPress",
        frozenset({"post_id", "post_type", "title"}),
        {"id": "post_id", "category": "category"},
        ">",
        _fold_wordpress,
    ),
    Shop("BigCommerce", frozenset({"item_type", "product_id", "product_name"}), {}, "/", _fold_bigcommerce),
    Shop(
        "PrestaShop",
        frozenset({"product_id", "name", "categories_x_y_z"}),
        {"category": "categories_x_y_z"},
        "",
        _fold_prestashop,
    ),
    Shop(
        "Magento",
        frozenset({"sku", "name", "attribute_set_code"}),
        {"id": "sku", "category": "categories"},
        "/",
        _fold_magento,
    ),
    Shop(
        "Magento",
        frozenset({"sku", "name", "attribute_set"}),
        {"id": "sku", "category": "category"},
        "/",
        _fold_magento,
    ),
)
