"""What of a resolved configuration differs from the defaults, with what each setting is for. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from genrecall.config import Config

UNKNOWN = "(unknown to this version)"


@dataclass(frozen=True)
class Difference:
    """One setting that is not as by default. about: its description, "" where it has none."""

    key: str
    value: str
    default: str
    about: str


def differences(config: dict[str, Any]) -> list[Difference]:
    """The settings of `config` (as written into a run) that differ from the defaults of this version, in its order."""
    defaults = dict(_leaves(Config().model_dump(mode="json")))
    return [
        Difference(key, shown(value), shown(defaults[key]) if key in defaults else UNKNOWN, about(key))
        for key, value in _leaves(config)
        if key not in defaults or defaults[key] != value
    ]


def about(key: str) -> str:
    """The description of the setting `generator.alignment.experts`; "" where there is none."""
    model: Any = Config
    description = ""
    for part in key.split("."):
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if field is None:
            return ""
        model, description = field.annotation, field.description or ""
    return description


def shown(value: Any) -> str:
    """As one would write it on the command line."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _leaves(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{above}.{name}" if above else name
        if isinstance(value, dict) and value:
            yield from _leaves(value, key)
        else:
            yield key, value
