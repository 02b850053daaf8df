"""The files of amazon-games as RUCAIBox/LLMRank publishes them, and how to read titles and histories."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genrecall.data.fetch import PublishedFile
from genrecall.errors import UserError

_RAW = "https://raw.githubusercontent.com/RUCAIBox/LLMRank/5ec1154cb74cbf68ed5721212f1d7e79336c39c7/llmrank/dataset"
TITLES_FILE = PublishedFile(
    name="Games.item",
    url=f"{_RAW}/Games/Games.item",
    sha256="be9cea58a8de4f940a20b0ad6b58bad46b22fd6f9dbc82d1a1902e1c62e96ade",
    size=837_183,
)
VALID_FILE = PublishedFile(
    name="Games-6k.valid.inter",
    url=f"{_RAW}/Games-6k/Games-6k.valid.inter",
    sha256="af84810be2c86cc4e7567ebe6355baf78e6e49889ceaa3174769020fd9495f17",
    size=2_246_866,
)
TEST_FILE = PublishedFile(
    name="Games-6k.test.inter",
    url=f"{_RAW}/Games-6k/Games-6k.test.inter",
    sha256="b241e4c8a52d2d41530fd073296e8bced4b61753e86ed6c51467c657704bab19",
    size=2_501_199,
)
FILES = (TITLES_FILE, VALID_FILE, TEST_FILE)


@dataclass(frozen=True)
class Titles:
    """Item id -> title, in the order of the file; how many rows had an empty title or an id that was there before."""

    of: dict[str, str]
    empty: int
    duplicate: int


def read_titles(path: Path) -> Titles:
    """Titles with their HTML entities as characters, on one line. UserError: a row that is not an id and a title."""
    titles: dict[str, str] = {}
    empty = duplicate = 0
    for item, text in _rows(path, ("item_id", "title")):
        title = " ".join(html.unescape(text).split())
        if not title:
            empty += 1
        elif item in titles:
            duplicate += 1
        else:
            titles[item] = title
    return Titles(titles, empty, duplicate)


def read_histories(valid: Path, test: Path) -> dict[str, list[str]]:
    """User -> all purchases, oldest first; the last two are the targets of `valid` and `test`.

    UserError: a row that is not a user, a history and a target; a history in `test` that is not that of `valid` with
    its target.
    """
    columns = ("user_id", "item_id_list", "item_id")
    before = {user: [*history.split(), target] for user, history, target in _rows(valid, columns)}
    histories: dict[str, list[str]] = {}
    for user, history, target in _rows(test, columns):
        if user in histories:
            raise UserError(f"{test}: user {user!r} is there twice; fetch it again")
        if before.get(user) != history.split():
            raise UserError(
                f"{test}: the history of user {user!r} is not that of {valid.name} with its target: the two files are "
                "not of one version; fetch both again"
            )
        histories[user] = [*history.split(), target]
    if missing := len(before.keys() - histories.keys()):
        raise UserError(f"{test}: {missing} users of {valid.name} are missing; fetch both again")
    return histories


def _rows(path: Path, names: tuple[str, ...]) -> Iterator[list[str]]:
    """The rows of a RecBole atomic file: a header `name:type`, then values, separated by tabs."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): fetch it again") from None
    columns = tuple(name.partition(":")[0] for name in lines[0].split("\t"))
    if columns != names:
        raise UserError(f"{path} line 1: columns {', '.join(columns)}, expected {', '.join(names)}: fetch it again")
    if lines[-1]:
        raise UserError(f"{path} line {len(lines)} has no end, so the file is cut short: fetch it again")
    for number, line in enumerate(lines[1:-1], 2):
        cells = line.split("\t")
        if len(cells) != len(names):
            expected = f"{len(names)} ({', '.join(names)})"
            raise UserError(f"{path} line {number}: {len(cells)} columns, expected {expected}: fetch it again")
        yield cells
