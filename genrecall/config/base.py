"""Reading a configuration: YAML file, dotted overrides, clear errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from genrecall.errors import UserError
from genrecall.resources import CONFIGS, find_config


class Section(BaseModel):
    """Base of every configuration section: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


S = TypeVar("S", bound=Section)


def load(model: type[S], path: Path | None, overrides: Sequence[str] = ()) -> S:
    """Read `path`, apply overrides such as `run.seed=3` (values are YAML), and check against `model`.

    path: a YAML file, or the name of a packaged configuration such as `demo`.

    Raises UserError for an unreadable file, a malformed override, an unknown key or a value out of range.
    """
    tree = _read(find_config(path)) if path else {}
    for override in overrides:
        _apply(tree, override)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        where = str(path) if path else "the configuration"
        raise UserError("\n".join([f"{where}:", *(_explain(model, e) for e in error.errors())])) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        packaged = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
        raise UserError(f"configuration {path} does not exist: those that come with genrecall are {packaged}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"configuration {path} is not YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"configuration {path} must be a mapping of sections, found {type(tree).__name__}")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    parts = key.split(".")
    if not separator or not all(parts):
        raise UserError(f"override {override!r} must look like section.key=value, such as run.seed=3")
    node = tree
    for part in parts[:-1]:
        if not isinstance(node.setdefault(part, {}), dict):
            raise UserError(f"override {override!r}: {part!r} holds a value, not a section")
        node = node[part]
    try:
        node[parts[-1]] = yaml.safe_load(value)
    except yaml.YAMLError:
        node[parts[-1]] = value


def _explain(model: type[Section], error: Any) -> str:
    path = ".".join(map(str, error["loc"]))
    if error["type"] != "extra_forbidden":
        found = re.sub(r"(?<=//)\S*@", "***@", repr(error["input"]))  # a URL may hold a password
        return f"  {path}: {error['msg']} (found {found})"
    known = _known(model, error["loc"][:-1])
    close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
    return f"  {path}: unknown key; {hint}"


def _known(model: type[Section], loc: Sequence[Any]) -> list[str]:
    """The keys known at `loc`, walking through nested sections."""
    for part in loc:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Section)):
            return []
        model = field.annotation
    return list(model.model_fields)
