"""Command lines of genrecall as text: found in Markdown, parsed against the real commands, never run here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from genrecall.cli.main import build
from genrecall.config import Config, Section
from simulation.config import ShopSection, SimulationSection

ROOT = Path(__file__).parents[2]
MODELS: dict[str, type[Section]] = {"data synthesize": ShopSection, "data simulate": SimulationSection}
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)
_APP: Any = get_command(build())  # click's Group


def commands() -> dict[str, Any]:
    """Words of every command, such as `index load` -> click's command."""
    return {
        " ".join(filter(None, (verb, name))): command
        for verb, of in _APP.commands.items()
        for name, command in getattr(of, "commands", {"": of}).items()
    }


def parse(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The command that `words` (without `genrecall`) name, and its parameters.

    Raises what click raises on a usage error, KeyError for a command or a configuration key that is not there.
    """
    command, name, rest = _APP, [], list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name.append(rest.pop(0))
        command = command.commands[name[-1]]
    if hasattr(command, "commands") or "--help" in rest:  # a group that is spoken of, or help
        return " ".join(name), {}
    parameters = command.make_context(name[-1], rest).params
    for override in parameters.get("overrides") or ():
        key, separator, _ = override.partition("=")
        assert separator, f"{override!r} is no override"
        check_key(key, MODELS.get(" ".join(name), Config))
    return " ".join(name), parameters


def check_key(key: str, model: type[Section] = Config) -> None:
    """Raise KeyError where the configuration has no such key."""
    current: Any = model
    for part in key.split("."):
        if not (isinstance(current, type) and issubclass(current, Section)) or part not in current.model_fields:
            raise KeyError(key)
        current = _section_of(current.model_fields[part].annotation)


def _section_of(annotation: Any) -> Any:
    """The section in an annotation such as `Stage | None`, or the annotation."""
    for part in getattr(annotation, "__args__", ()):
        if isinstance(part, type) and issubclass(part, Section):
            return part
    return annotation


def fences(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of each fenced block."""
    for match in _FENCE.finditer(text):
        yield match[2], match[3]


def spans(text: str) -> Iterator[str]:
    """Inline code outside fenced blocks."""
    for match in re.finditer(r"`([^`]+)`", _FENCE.sub("", text)):
        yield " ".join(match[1].split())


def shell(text: str) -> Iterator[list[str]]:
    """The words of each command in shell text: comments, prompts and prose after wide gaps are left out."""
    for raw in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"^\s*\d/\d .*?\$ ", "", raw).strip().removeprefix("$ ")  # the demo's headings
        for part in re.split(r"&&|\|\||\||;", re.split(r"\s#\s|\s{3,}(?![-\\])", line)[0]):
            try:
                words = shlex.split(part)
            except ValueError:  # half of a quoted text over several lines: no command of ours
                continue
            yield [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)]


def genrecall_lines(text: str) -> Iterator[tuple[list[str], bool]]:
    """The words after `genrecall` of each command line in Markdown, and whether it is inline code."""
    blocks = [content for language, content in fences(text) if language in ("", "sh", "bash", "console")]
    blocks += re.findall(r"(?:^ {4}\S.*\n)+", text, re.M)
    for inline, parts in ((False, blocks), (True, spans(text))):
        for block in parts:
            for words in shell(re.sub(r"\[(--[^\]]*)\]", r"\1", block)):  # usage: [--port 9200]
                if words[:1] == ["genrecall"] and len(words) > 1:
                    yield [re.sub(r"^[NS]$", "1", word) for word in words[1:] if word != "..."], inline
