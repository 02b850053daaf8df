"""Fills the JSON documents in `templates/`: the one place where their text becomes a request."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

_NAME = re.compile(r"\$\{(\w+)\}")


def render(template: str, **values: Any) -> dict[str, Any]:
    """The document `templates/<template>.json` with every `${name}` replaced.

    A string that is nothing but `"${name}"` becomes the value with its type (a number, a list); inside a longer string
    the value is written as text. Raises KeyError for a name without a value, ValueError for a value that no name uses.
    """
    text = files("index_mappings").joinpath("templates", f"{template}.json").read_text(encoding="utf-8")
    unused = values.keys() - set(_NAME.findall(text))
    if unused:
        raise ValueError(f"template {template!r} does not use {', '.join(sorted(unused))}")
    filled: dict[str, Any] = _fill(json.loads(text), values)
    return filled


def _fill(node: Any, values: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _fill(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, values) for value in node]
    if not isinstance(node, str):
        return node
    if whole := _NAME.fullmatch(node):
        return values[whole.group(1)]
    return _NAME.sub(lambda match: str(values[match.group(1)]), node)
