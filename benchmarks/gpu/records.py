"""Results as lines of JSON, written as soon as each is there, and the Markdown made of them. Standard library alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""{"part", "table", "row"}: a result; {"part", "status", "seconds", ...}: how a part ended."""

DONE, ERRORS, FAILED, TIMEOUT, NO_TIME = "done", "done, with errors", "failed", "timed out", "no time left"
ENDED = (DONE, ERRORS)  # not run again by itself


def append(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, default=float) + "\n")


def read(path: Path) -> list[Record]:
    """Those of each part's last run; a part that began again replaces what it had."""
    records: list[Record] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record.get("status") == "started":
                records = [one for one in records if one["part"] != record["part"]]
            records.append(record)
    return records


def outcome(records: Iterable[Record], part: str) -> str | None:
    """How the part's last run ended; None where it never ran, "started" where it did not end."""
    found = [record["status"] for record in records if record["part"] == part and "status" in record]
    return found[-1] if found else None


def markdown(records: list[Record], titles: dict[str, str]) -> str:
    """A section a part, a table for each of its tables. titles: of the parts, in order."""
    out: list[str] = []
    for part, title in titles.items():
        of_part = [record for record in records if record["part"] == part]
        if not of_part:
            continue
        out += [f"## {title}", ""]
        if (status := outcome(of_part, part)) != DONE:
            end = of_part[-1]
            reason = f": `{end['error']}`" if end.get("error") else ""
            out += [f"**{status}**{reason}", ""]
        for table in dict.fromkeys(record["table"] for record in of_part if "table" in record):
            rows = [record["row"] for record in of_part if record.get("table") == table]
            columns = list(dict.fromkeys(name for row in rows for name in row))
            out += [f"{table}:", ""] if table != part else []
            out += [_line(columns), _line(["---"] * len(columns))]
            out += [_line([_cell(row.get(name)) for name in columns]) for row in rows]
            out.append("")
    return "\n".join(out)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
