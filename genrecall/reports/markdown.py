"""Text, figures and tables as Markdown: escaping, number formats and the names of systems, for every report.

In a template each value goes through `plain`, unless it is `Markdown` already: text of a user never becomes markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

CHANNELS = {
    "bm25": "BM25",
    "knn": "k-NN",
    "adapted": "tuned k-NN",
    "generative": "generative",
    "generative_text": "generative (text only)",
    "linear": "linear control",
    "placebo": "placebo k-NN",
    "rocchio": "Rocchio k-NN",
    "boosted": "boosted BM25",
    "hybrid": "hybrid query",
}
REGIMES = {"unseen": "Unseen queries", "recurring": "Recurring queries", "returning": "Returning queries"}


class Markdown(str):
    """Text that is Markdown already: it is put into a report as it is."""

    __slots__ = ()


def plain(text: object) -> Markdown:
    """Any text as Markdown that shows just that text, in a table too: one line, no markup, no tags; None as a dash."""
    if isinstance(text, Markdown):
        return text
    line = re.sub(r"\s+", " ", "-" if text is None else str(text))
    line = re.sub(r"&(?=[#\w]+;)", "&amp;", line).replace("<", "&lt;")
    line = re.sub(r"^ ?>", "&gt;", line)  # a quote only where a line begins with it
    return Markdown(re.sub(r"([\\`*\[\]~#|]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", line))  # `_` in a word is text


def code(text: object) -> Markdown:
    """Any text as code of one line. A span for each side of a `|`, which no span may hold inside of a table."""
    line = " ".join(str(text).split()) or " "
    return Markdown(r"\|".join(_span(part) if part else "" for part in line.split("|")))


def _span(line: str) -> str:
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if "`" in (line[0], line[-1]) or (line.strip() and line[0] == line[-1] == " ") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def listing(text: str, language: str = "") -> Markdown:
    """Any text as a block of code."""
    fence = "`" * max(3, max(map(len, re.findall("`+", text)), default=0) + 1)
    return Markdown(f"{fence}{language}\n{text.rstrip()}\n{fence}")


def table(header: Sequence[object], rows: Iterable[Sequence[object]], numbers: bool = False) -> Markdown:
    """A table of any cells. numbers: every column but the first is set to the right."""
    lines = [f"| {' | '.join(map(plain, row))} |" for row in (header, *rows)]
    rule = "|---|" + ("---:|" if numbers else "---|") * (len(header) - 1)
    return Markdown("\n".join([lines[0], rule, *lines[1:]]))


def bold(text: object) -> Markdown:
    return Markdown(f"**{plain(text)}**")


def share(value: float | None) -> str | None:
    """`.746`, as everywhere in the results."""
    if value is None:
        return None
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:.3f}"


def interval(of: Mapping[str, float]) -> Markdown:
    """`.746 [.704, .788]`. of: mean, low, high."""
    return Markdown(f"{share(of['mean'])} [{share(of['low'])}, {share(of['high'])}]")


def points(of: Mapping[str, float], digits: int = 1) -> Markdown:
    """A difference in points, `+1.9 [+0.6, +3.4]`. of: mean, low, high."""
    mean, low, high = (f"{100 * of[name]:+.{digits}f}" for name in ("mean", "low", "high"))
    return Markdown(f"{mean} [{low}, {high}]")


def clear_points(of: Mapping[str, float], digits: int = 1) -> Markdown:
    """`points`, bold where the interval excludes zero."""
    text = points(of, digits)
    return bold(text) if of["low"] > 0 or of["high"] < 0 else text


def change(values: Sequence[float]) -> str | None:
    """`3.372 -> 2.360`; None where nothing was logged."""
    if not values:
        return None
    return f"{values[0]:.3f}" if len(values) == 1 else f"{values[0]:.3f} -> {values[-1]:.3f}"


def duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def count(number: float | None) -> str | None:
    """`1,000`."""
    return None if number is None else f"{number:,}"


def counts(numbers: Mapping[str, int]) -> str:
    """`train 3, test 1`, without those that are zero; "none" where all are."""
    return ", ".join(f"{name} {n:,}" for name, n in numbers.items() if n) or "none"


def simulated(of: Mapping[str, object]) -> str:
    """What follows every heading, caption and title that rests on simulated data."""
    return " (simulated)" if of["simulated"] else ""


def system(name: str) -> str:
    """`bm25+knn:tuned` -> `BM25 + k-NN, tuned weights`."""
    channels, _, weights = name.partition(":")
    words = " + ".join(CHANNELS.get(channel, channel) for channel in channels.split("+"))
    return f"{words}, {weights} weights" if weights else words
