"""A page as data: sections of Markdown, pictures and folds. What comes from a user goes through `plain` or `code`.

The page is written twice, as Markdown and as HTML (`html`), from the same blocks.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A plot; `name` is that of its file, without its ending. Drawn, or its PNG read, when the page is written."""

    name: str
    caption: str
    draw: Callable[[], Figure | bytes]


@dataclass(frozen=True)
class Fold:
    """Markdown that is shown when asked for."""

    summary: str
    text: str


@dataclass(frozen=True)
class Alert:
    """Markdown that must be seen. kind: "warning", "note" or "tip"."""

    kind: str
    text: str


@dataclass(frozen=True)
class Glance:
    """A few figures in a row, by name; plain text."""

    figures: Mapping[str, str]


Block = str | Picture | Fold | Alert | Glance


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """title: plain text. head: what stands before the first section."""

    title: str
    head: Sequence[Block]
    sections: Sequence[Section]

    @property
    def pictures(self) -> list[Picture]:
        blocks = [*self.head, *(block for section in self.sections for block in section.blocks)]
        return [block for block in blocks if isinstance(block, Picture)]


def markdown(page: Page, pictures: str) -> str:
    """The page as Markdown. pictures: the folder they lie in, as seen from the file."""
    parts = [f"# {plain(page.title)}", *(_block(block, pictures) for block in page.head)]
    for section in page.sections:
        parts += [f"## {plain(section.title)}", *(_block(block, pictures) for block in section.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block, pictures: str) -> str:
    if isinstance(block, Picture):
        return f"![{plain(block.caption)}]({pictures}/{block.name}.png)"
    if isinstance(block, Fold):
        return f"<details><summary>{html.escape(block.summary)}</summary>\n\n{block.text}\n\n</details>"
    if isinstance(block, Alert):
        return "\n".join([f"> [!{block.kind.upper()}]", *(f"> {line}".rstrip() for line in block.text.split("\n"))])
    if isinstance(block, Glance):
        return figures([plain(name) for name in block.figures], [[plain(value) for value in block.figures.values()]])
    return block


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A Markdown table of cells that are Markdown. numbers: the columns that are set to the right."""
    right = set(numbers)
    rule = "|" + "|".join("---:" if column in right else "---" for column in range(len(header))) + "|"
    return "\n".join([_row(header), rule, *map(_row, rows)])


def figures(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column names and whose others count."""
    return table(header, rows, range(1, len(header)))


def plain(text: object) -> str:
    """Any text as Markdown that shows just that text: one line, no markup, no tags."""
    line = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]~#])", r"\\\1", line)


def code(text: object) -> str:
    """Any text as a code span of one line."""
    line = " ".join(str(text).split()) or " "
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def listing(text: str, language: str = "") -> str:
    """Any text as a block of code."""
    fence = "`" * max(3, max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
