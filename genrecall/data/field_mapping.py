"""Field paths: where a field is in a row of a user's data, as in `category[:2]` or `event_attributes.object.object_id`.

Owns the path language. Whether a value can be used is decided by `genrecall.data.parse`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Getter = Callable[[Any], Any]

# A name, then any number of [2], [-1], [:2], [1:], [1:3]; steps are joined by dots.
_STEP = re.compile(r"(?P<name>[^.\[\]]+)(?P<picks>(?:\[(?:-?\d+|-?\d*:-?\d*)\])*)")
_PICK = re.compile(r"\[([^\]]*)\]")


def getter(path: str | list[str]) -> Getter:
    """Compile a path into a function from a row to the value there, None where the row has none.

    A list of paths gives the list of their values, absent ones left out. A dotted name is tried as one key first,
    because flattened exports write `{"event_attributes.object.object_id": ...}`. A name with a space that is no path
    is one key: `Categories (x,y,z...)`, `Weight [kg]`. ValueError for any other path that cannot be read.
    """
    if isinstance(path, list):
        if not path:
            raise ValueError("an empty list of fields: name at least one, such as [description, bullet_points]")
        parts = [getter(part) for part in path]
        return lambda row: [value for part in parts if (value := part(row)) is not None]
    if " " in path and not all(map(_STEP.fullmatch, path.split("."))):
        return lambda row: row.get(path) if isinstance(row, dict) else None
    steps = [step for part in path.split(".") for step in _steps(part, path)]

    def get(row: Any) -> Any:
        if isinstance(row, dict) and path in row:
            return row[path]
        for step in steps:
            row = step(row)
        return row

    return get


def _steps(part: str, path: str) -> list[Getter]:
    match = _STEP.fullmatch(part)
    if not match:
        raise ValueError(f"field path {path!r} not understood at {part!r}: write name, name.sub, name[0] or name[:2]")
    return [_key(match["name"]), *(_pick(pick) for pick in _PICK.findall(match["picks"]))]


def _key(name: str) -> Getter:
    return lambda value: value.get(name) if isinstance(value, dict) else None


def _pick(text: str) -> Getter:
    if ":" in text:
        start, stop = (int(end) if end else None for end in text.split(":"))
        return lambda value: value[start:stop] if isinstance(value, list) else value
    at = int(text)
    return lambda value: value[at] if isinstance(value, list) and -len(value) <= at < len(value) else None
