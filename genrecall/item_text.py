"""The text of an item that is embedded, and the values of its fields, shared by training and serving.

Imports no reader of datasets, so that a server can use it.
"""

from __future__ import annotations

import ast
import html
import json
import math
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from genrecall.errors import BadRow

TEXT_CATEGORIES = 2  # how many names of the category path, from its specific end, are embedded with the title
LEVELS = (">", "»", "›", "→", "::", "/", "|", "\\")  # what stands between the names of a path, the surest first  # noqa: RUF001
PATHS = ("|", ";", "\n", ",")  # what may stand between whole paths
ROOTS = {"default category", "root catalog"}  # Magento's, above every path
NAMES = ("name", "title", "label", "value", "text", "#text", "@value", "path", "display_name", "displayName", "en")
ABSENT = {"nan", "null", "none", "n/a", "#n/a", "\\n", "undefined"}  # what exports write where there is nothing

_INLINE = (
    "a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd mark q s samp small span strike strong sub sup"
)
_INLINE += " tt u var wbr"
_BLOCK = "address article aside blockquote body br button caption center col colgroup dd div dl dt fieldset figcaption"
_BLOCK += (
    " figure footer form h1 h2 h3 h4 h5 h6 head header hr html iframe img input label legend li link main meta nav"
)
_BLOCK += " object ol option p param pre script section select source style svg path table tbody td textarea tfoot th"
_BLOCK += " thead title tr track ul video"
_TAG = r"</?(?:%s)(?:\s[^<>]*)?/?>"
_NOT_SHOWN = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->|<!\[CDATA\[|\]\]>", re.I | re.S)
_BLOCK_TAG = re.compile(_TAG % _BLOCK.replace(" ", "|"), re.I)
_INLINE_TAG = re.compile(_TAG % _INLINE.replace(" ", "|"), re.I)
_INTEGRAL = 1e15  # beyond it a float no longer tells neighbouring whole numbers apart


def item_text(items: pa.Table) -> list[str]:
    """The text of each item that is embedded. items: ITEMS."""
    columns = (items[name].to_pylist() for name in ("title", "brand", "category"))
    return [embedded_text(*parts) for parts in zip(*columns, strict=True)]


def embedded_text(title: str, brand: str, category: Sequence[str]) -> str:
    """The text of one item that is embedded: "title . brand . last categories", absent parts left out."""
    return " . ".join(part for part in (title, brand, " ".join(category[-TEXT_CATEGORIES:])) if part)


def parse_text(value: Any, name: str, join: str | None = None) -> str:
    """A value as one trimmed line, "" where there is none.

    Numbers are written out; a list of one value and an object with a name stand for that value. A list of several is
    joined by `join`; BadRow where that is None, for any other type, and for text that cannot be stored.
    """
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise BadRow(f"{name} is not valid Unicode") from None
        return " ".join(value.split())
    if value is None:
        return ""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _number(value)
    if isinstance(value, list | tuple):
        parts = [part for one in value if (part := parse_text(one, name, join))]
        if len(parts) <= 1 or join is not None:
            return (join or "").join(dict.fromkeys(parts))
    if isinstance(value, dict) and (found := _named(value)) is not value:
        return parse_text(found, name, join)
    raise BadRow(f"{name} is {_kind(value)}, not text")


def clean_text(value: Any, name: str, join: str | None = None, keep_html: bool = False) -> str:
    """As `parse_text`, with entities decoded and the tags of HTML removed unless `keep_html`."""
    text = parse_text(value, name, join)
    return text if keep_html else without_html(text)


def without_html(text: str) -> str:
    """`text` with entities decoded, also those encoded twice, and the tags of HTML removed: `a < b` and `<M>` stay."""
    if "&" not in text and "<" not in text:
        return text
    for _ in range(2):
        if "<" in text:
            text = _INLINE_TAG.sub("", _BLOCK_TAG.sub(" ", _NOT_SHOWN.sub(" ", text)))
        text = html.unescape(text)
    if "<" in text:
        text = _INLINE_TAG.sub("", _BLOCK_TAG.sub(" ", text))
    if not text.isascii():  # &#xd800; and the like
        text = text.encode("utf-8", "replace").decode()
    return " ".join(text.split())


def is_absent(text: str) -> bool:
    """Whether a text is what exports write where there is nothing: NaN, null, N/A."""
    return len(text) <= 9 and text.casefold() in ABSENT


def decoded(value: Any) -> Any:
    """A list or object that a table holds as text, in JSON or as Python prints it; any other value as it is."""
    if isinstance(value, str) and value[:1] in ("[", "{") and value[-1:] in ("]", "}"):
        for read in (json.loads, ast.literal_eval):
            try:
                return read(value)
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                continue
    return value


def parse_categories(value: Any, separator: str = "", keep_html: bool = False) -> list[str]:
    """The deepest of `parse_paths`, the first of those of equal depth; empty where there is none."""
    return max(parse_paths(value, separator, keep_html), key=len, default=[])


def parse_paths(value: Any, separator: str = "", keep_html: bool = False) -> list[list[str]]:
    """Category paths, each a list of names from general to specific.

    Args:
        value: a text of names, a list of names (one path), or several paths: texts, lists, objects with a name.
        separator: what stands between the names of a path in a text; "" where a text is one name.
        keep_html: leave entities and tags in the names.
    """
    value = decoded(value)
    if isinstance(value, str):
        return _paths_of_text(value, separator, keep_html)
    if isinstance(value, dict):
        return _paths_of_object(value, separator, keep_html)
    if not isinstance(value, list | tuple):
        name = _clean_name(value, keep_html)
        return [[name]] if name else []
    parts = [paths for part in value if (paths := parse_paths(part, separator, keep_html))]
    several = any(isinstance(part, list | tuple) for part in value) or any(len(path) > 1 for ps in parts for path in ps)
    if several:
        return list(map(list, dict.fromkeys(tuple(path) for paths in parts for path in paths)))
    names = [path[0] for paths in parts for path in paths]
    return [names] if names else []


def _paths_of_text(text: str, separator: str, keep_html: bool) -> list[list[str]]:
    if not keep_html:
        text = text.replace("&gt;", ">").replace("&amp;gt;", ">")
    texts = [text]
    if separator:
        for between in PATHS:
            parts = text.replace(f"\\{between}", "\0").split(between) if between != separator else [text]
            if len(parts) > 1 and all(separator in part for part in parts if part.strip()):
                texts = [part.replace("\0", between) for part in parts]
                break
    paths = [[_clean_name(name, keep_html) for name in (t.split(separator) if separator else [t])] for t in texts]
    paths = [[name for name in path if name] for path in paths]
    paths = [path[1:] if path and path[0].casefold() in ROOTS else path for path in paths]
    return [path for path in paths if path]


def _paths_of_object(value: dict[Any, Any], separator: str, keep_html: bool) -> list[list[str]]:
    levels = sorted(key for key in value if isinstance(key, str) and re.fullmatch(r"(lvl|level)_?\d", key))
    if levels:  # lvl0: "A", lvl1: "A > B"
        last = [value[key] for key in levels if value[key]]
        texts = last[-1:] if last and ">" in str(last[-1]) else [last]
        return [path for text in texts for path in parse_paths(text, separator or ">", keep_html)]
    found = _named(value)
    if found is value:
        raise BadRow("category is an object without a name")
    paths = parse_paths(found, separator, keep_html)
    parent = value.get("parent") or value.get("ancestors") or value.get("parents")
    if paths and isinstance(parent, dict | list):
        above = parse_paths(parent, separator, keep_html)
        return [[*(above[0] if above else []), *path] for path in paths]
    return paths


def _clean_name(value: Any, keep_html: bool) -> str:
    name = clean_text(value, "category", keep_html=keep_html)
    return "" if is_absent(name) else name


def separator_of(values: Sequence[Any]) -> str:
    """What stands between the names of a path, judged by some values of a catalogue; "" where nothing does.

    A slash or a bar also stands inside names ("TV/Audio"): it counts where at least half of the texts have it, or where
    it begins one. In lists, whose texts are names as a rule, only the arrows count.
    """
    values = [decoded(value) for value in values]
    texts = [value.replace("&gt;", ">") for value in values if isinstance(value, str) and value.strip()]
    listed = [
        t.replace("&gt;", ">") for value in values if isinstance(value, list) for t in value if isinstance(t, str)
    ]
    for level in LEVELS:
        sure = level not in ("/", "|", "\\")
        have = sum(level in text for text in texts)
        if sure and (have or any(level in text for text in listed)):
            return level
        if not sure and texts and (have * 2 >= len(texts) or any(t.startswith(level) and len(t) > 1 for t in texts)):
            return level
    return ""


def parse_texts(value: Any, keep_html: bool = False) -> Iterator[str]:
    """Every string and number in a value of nested lists and objects, each as one line."""
    value = decoded(value)
    if isinstance(value, list | tuple):
        for part in value:
            yield from parse_texts(part, keep_html)
    elif isinstance(value, dict):
        for part in value.values():
            yield from parse_texts(part, keep_html)
    elif not isinstance(value, bool) and (text := clean_text(value, "text", keep_html=keep_html)):
        yield text


def _number(value: float | Decimal) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        if value.is_integer() and abs(value) < _INTEGRAL:
            return str(int(value))
    return str(value)


def _named(value: dict[Any, Any]) -> Any:
    """What stands for an object: its name, or its only value; the object itself where there is neither."""
    for key in NAMES:
        if value.get(key) not in (None, "", [], {}):
            return value[key]
    return next(iter(value.values())) if len(value) == 1 else value


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")
