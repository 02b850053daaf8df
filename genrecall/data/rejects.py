"""What a source's rows came to: bad rows counted by reason and written to a file, rows left out, what is worth saying.

Too many bad rows stop the run. Rows that are left out for a reason that is no mistake (a variant of a product, a
judgment of an item that left the catalogue) are counted apart and never stop it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from genrecall.errors import UserError

HINTS = {  # reason -> what may be behind it
    "timestamp is not a time": " Times are read as 2026-01-31T12:00:00Z, 31.01.2026 12:00, 1/31/2026 1:00 PM, or "
    "seconds, milli-, micro- or nanoseconds since 1970.",
    "id is a duplicate": " Where each variant of a product has a row, name the column that tells them apart (--map "
    "id=COLUMN), or keep the first row of each product (data.max_reject_share=1).",
}
RAW_CHARS = 10_000  # of a rejected row; enough to recognise it


class Rejects:
    """Counts and keeps rejected rows of every source of one dataset. To be closed: a context manager.

    Args:
        path: the reject file (JSON lines: source, place, line, reason, raw), written line by line and absent when no
            row is rejected; None keeps only the counts.

    Attributes:
        accepted: rows by source.
        reasons: source -> reason -> rejected rows.
        left_out: source -> reason -> rows, or values of rows, left out for a reason that is no mistake.
        notes: source -> what may be wrong with it, and the setting that helps; each once.
        facts: source -> what was found in it, JSON-ready: the columns of its fields, a histogram of its grades.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.accepted: Counter[str] = Counter()
        self.reasons: dict[str, Counter[str]] = {}
        self.examples: dict[tuple[str, str], str] = {}
        self.left_out: dict[str, Counter[str]] = {}
        self.notes: dict[str, list[str]] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self._file: TextIO | None = None
        if path:
            path.unlink(missing_ok=True)

    def __enter__(self) -> Rejects:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the reject file; the counts stay."""
        if self._file:
            self._file.close()

    def reject(self, source: str, place: str, line: int, reason: str, raw: Any) -> None:
        """One row of `source` (items, queries, ...) found at `line` of `place` (a file or an index)."""
        self.reasons.setdefault(source, Counter())[reason] += 1
        self.examples.setdefault((source, reason), f"{place} line {line}")
        if self.path:
            text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, default=str)
            row = {"source": source, "place": place, "line": line, "reason": reason, "raw": text[:RAW_CHARS]}
            if not self._file:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("w", buffering=1, encoding="utf-8", errors="backslashreplace")
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def accept(self, source: str) -> None:
        """One row of `source` that can be used."""
        self.accepted[source] += 1

    def leave_out(self, source: str, reason: str, count: int = 1) -> None:
        """Rows, or values, of `source` that are left out though nothing is wrong with them."""
        self.left_out.setdefault(source, Counter())[reason] += count

    def note(self, source: str, text: str) -> None:
        """Something that may be wrong with `source`."""
        notes = self.notes.setdefault(source, [])
        if text not in notes:
            notes.append(text)

    def count(self, source: str | None = None) -> int:
        """Rejected rows of `source`, or of all."""
        chosen = self.reasons if source is None else {source: self.reasons.get(source, Counter())}
        return sum(reasons.total() for reasons in chosen.values())

    def check(self, source: str, max_share: float) -> None:
        """Raise UserError when the rejected share of `source` is above `max_share`, or when no row was accepted."""
        accepted, rejected = self.accepted[source], self.count(source)
        rows = accepted + rejected
        if not rows:
            left = "; ".join(f"{reason}: {n:,}" for reason, n in self.left_out.get(source, Counter()).most_common(3))
            raise UserError(
                f"data.{source} has no rows{f' that can be used ({left})' if left else ''}: check that the file or "
                "index is the right one"
            )
        if accepted and rejected <= max_share * rows:
            return
        reason, times = self.reasons[source].most_common(1)[0]
        hint = HINTS.get(reason, "")
        where = f"all are listed in {self.path}" if self.path else "`genrecall data check` lists them all in a file"
        raise UserError(
            f"data.{source}: {rejected} of {rows} rows cannot be used ({rejected / rows:.1%}; data.max_reject_share is "
            f"{max_share:.1%}). The commonest reason is {reason!r} ({times} rows, first at "
            f"{self.examples[source, reason]}); {where}.{hint} Correct the rows or the mapping data.{source}.fields, "
            "or raise data.max_reject_share."
        )


@contextmanager
def open_rejects(rejects: Path | Rejects | None) -> Iterator[Rejects]:
    """A `Rejects` with the given file, closed at the end; one that the caller owns is left open."""
    if isinstance(rejects, Rejects):
        yield rejects
        return
    with Rejects(rejects) as opened:
        yield opened
