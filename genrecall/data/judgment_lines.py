"""Judgments in lines that are no table: TREC qrels with any white space, and feature files of learning to rank."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from genrecall.data.columns import JUDGMENT, plain
from genrecall.data.row import Row
from genrecall.data.text_files import is_damaged, lines_of, shown
from genrecall.errors import UserError

SAMPLE_LINES = 50
_ITERATION = re.compile(r"\s*(\d+|[Qq]\d+|[Ii]ter\w*)?\s*$")
_COUNTS = {name for field in ("impressions", "clicks", "purchases") for name in JUDGMENT[field].split()}
_HEADS = {*JUDGMENT["query_id"].split(), *JUDGMENT["query"].split()}  # how a header begins
_FEATURES = re.compile(
    r"\s*(?P<grade>[-+.\deE]+)\s+qid:(?P<query>\S+)(?P<features>(?:\s+[^\s#:]+:\S+)*)\s*(?:#(?P<about>.*))?$"
)
_QUERY_TEXT = re.compile(r"\s*#\s*qid:(\S+?)\s*:\s*(.*)$")  # "# qid:1: rambo", before the rows of the query
_DOCID = re.compile(r"\b(?:docid|doc_id|docno)\s*[=:]\s*(\S+)")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


def reader_of(path: Path, encoding: str) -> tuple[str, partial[Iterator[Row]]] | None:
    """What the lines are, for people, and what reads them; None where the file is a table.

    UserError for a run file: it has ranks, not judgments.
    """
    lines = [text.lstrip("\ufeff") for _, text in islice(lines_of(path, encoding), SAMPLE_LINES)]
    told = [text for text in lines if not text.lstrip().startswith("#")]
    if not told:
        return None
    if any(_FEATURES.match(text) for text in told[:5]):
        return "features for learning to rank", partial(_features, path, encoding)
    cells = [text.split() for text in told]
    if sum(len(row) == 6 and row[1].upper() == "Q0" for row in cells) * 2 > len(cells):
        raise UserError(
            f"{path} is a run (query, Q0, item, rank, score, tag), not judgments: judgments have four columns, as in "
            "`q1 0 B01 2`"
        )
    tabbed = [text.split("\t") for text in told]
    if sum(len(row) == 4 for row in tabbed) * 2 > len(tabbed):
        return ("TREC qrels", partial(_qrels, path, encoding, "\t")) if _are_qrels(tabbed) else None
    return ("TREC qrels", partial(_qrels, path, encoding, None)) if _are_qrels(cells) else None


def _are_qrels(rows: list[list[str]]) -> bool:
    """Most rows are four columns: a query, an iteration, an item, a number; a header names no counts of clicks."""
    if {plain(cell) for cell in rows[0]} & _COUNTS:
        return False
    fit = sum(len(row) == 4 and bool(_ITERATION.match(row[1]) and _NUMBER.match(row[3].strip())) for row in rows)
    return fit * 2 > len(rows) - 1  # one may be a header


def _qrels(path: Path, encoding: str, delimiter: str | None) -> Iterator[Row]:
    """`query_id iteration item_id grade`; delimiter: None for any white space."""
    for line, text in lines_of(path, encoding):
        cells = [cell.strip() for cell in text.lstrip("\ufeff").split(delimiter)]
        if is_damaged(text):
            yield Row(path.name, line, shown(text), f"not {encoding}")
        elif len(cells) != 4:
            if not text.lstrip().startswith("#"):
                yield Row(path.name, line, text, "not four columns")
        elif _NUMBER.match(cells[3]) or plain(cells[0]) not in _HEADS:
            yield Row(path.name, line, {"query_id": cells[0], "item_id": cells[2], "grade": cells[3]})


def _features(path: Path, encoding: str) -> Iterator[Row]:
    """`grade qid:query 1:value 2:value ... # item text of the query`.

    The item is what the comment names as docid, else its first word; what follows it is the text of the query, as
    Quepid writes it, unless lines `# qid:1: text` tell the texts.
    """
    texts: dict[str, str] = {}
    for line, raw in lines_of(path, encoding):
        text = raw.lstrip("\ufeff")
        if is_damaged(text):
            yield Row(path.name, line, shown(text), f"not {encoding}")
            continue
        if told := _QUERY_TEXT.match(text):
            texts[told[1]] = told[2].strip().split("*")[0].strip()
            continue
        if text.lstrip().startswith("#"):
            continue
        found = _FEATURES.match(text)
        if not found:
            yield Row(path.name, line, text, "not `grade qid:query features # item`")
            continue
        about = (found["about"] or "").strip()
        named = _DOCID.search(about)
        if not (item := named[1] if named else about.split(";")[0].split(" ")[0].strip()):
            yield Row(path.name, line, text, "no item after #")
            continue
        rest = "" if named else about[len(item) :].strip(' ;"')
        value = {"query_id": found["query"], "item_id": item, "grade": found["grade"]}
        query = texts.get(found["query"]) or rest
        yield Row(path.name, line, {**value, "query": query} if query else value)
