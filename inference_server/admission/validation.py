"""Requests against the limits of the settings. Each error names the field, the value and the limit."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genrecall.config.server import ServerSection
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.sid import LEVELS, Sid

FILLERS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and a symbol without ink


class InvalidRequest(Exception):
    """The request is invalid or exceeds a limit."""


@dataclass(frozen=True)
class GenerateParams:
    """A validated `Generate` request, defaults applied."""

    texts: list[str]
    users: list[pb.User | None]
    remember: list[bool]
    k: int
    beam_width: int

    def width(self, computed: Sequence[int]) -> int:
        """Of the widths that are computed, ascending, the one for this beam."""
        return next(width for width in computed if width >= self.beam_width)


@dataclass(frozen=True)
class ScoreParams:
    """A validated `Score` request; codes: int64 [n, 3], n >= 1."""

    codebook: str
    text: str
    user: pb.User | None
    remember: bool
    codes: np.ndarray


def check_generate(
    request: pb.GenerateRequest, limits: ServerSection, widest: int = sys.maxsize, engine: str = ""
) -> GenerateParams:
    """Apply defaults and limits; raises InvalidRequest. widest: beam of the engine of that name."""
    if not request.queries:
        raise InvalidRequest("queries is empty: send at least one")
    _check_count("queries", len(request.queries), "entries", "max_queries", limits)
    for i, query in enumerate(request.queries):
        _check_query(f"queries[{i}]", query, limits)
    k = request.k or limits.default_k
    if k > limits.max_k:
        raise InvalidRequest(f"k is {k}, at most {limits.max_k} is allowed (server.max_k)")
    beam_width = request.beam_width or k
    if beam_width < k:
        raise InvalidRequest(f"beam_width is {beam_width}, it must be at least k = {k}")
    if beam_width > limits.max_beam_width:
        raise InvalidRequest(
            f"beam_width is {beam_width}, at most {limits.max_beam_width} is allowed (server.max_beam_width)"
        )
    if beam_width > widest:
        raise InvalidRequest(f"beam_width is {beam_width}, at most {widest} is computed by this codebook's {engine}")
    texts, users = [query.text for query in request.queries], [_user(query) for query in request.queries]
    remember = [not query.without_memory for query in request.queries]
    return GenerateParams(texts, users, remember, k, beam_width)


def check_score(request: pb.ScoreRequest, limits: ServerSection) -> ScoreParams:
    """Apply limits; raises InvalidRequest. Codes that no item has are allowed: their score is -inf."""
    _check_query("query", request.query, limits)
    codes = np.array(request.codes, dtype=np.int64)
    if not len(codes) or len(codes) % LEVELS:
        raise InvalidRequest(f"codes has {len(codes)} entries: send {LEVELS} a SID, for one SID at least")
    sids = codes.reshape(-1, LEVELS)
    _check_count("codes", len(sids), "SIDs", "max_score_sids", limits)
    query = request.query
    return ScoreParams(request.codebook, query.text, _user(query), not query.without_memory, sids)


def check_encode(request: pb.EncodeRequest, limits: ServerSection) -> None:
    """Apply limits; raises InvalidRequest. Ids are not read: they may be missing or repeated."""
    if not request.items:
        raise InvalidRequest("items is empty: send at least one")
    _check_count("items", len(request.items), "entries", "max_items", limits)
    for i, item in enumerate(request.items):
        if blank(item.title):
            raise InvalidRequest(
                f"items[{i}].title is empty: a SID is made of title, brand and category, and needs a title"
            )
        chars = {name: len(getattr(item, name)) for name in ("item_id", "title", "brand", "text")}
        chars["category"] = sum(len(name) + 1 for name in item.category)  # an empty name counts too
        for name, count in chars.items():
            if count > limits.max_item_chars:
                raise InvalidRequest(
                    f"items[{i}].{name} has {count} characters, at most {limits.max_item_chars} are allowed "
                    "(server.max_item_chars)"
                )


def _check_count(field: str, count: int, unit: str, setting: str, limits: ServerSection) -> None:
    limit = _limit(setting, limits)
    if count > limit:
        source = f"server.{setting}" if limit == getattr(limits, setting) else "server.max_pending"
        raise InvalidRequest(f"{field} has {count} {unit}, at most {limit} are allowed in one call ({source})")


def _user(query: pb.Query) -> pb.User | None:
    return query.user if query.HasField("user") else None


def _check_query(field: str, query: pb.Query, limits: ServerSection) -> None:
    if blank(query.text):
        raise InvalidRequest(f"{field}.text is empty: a query needs at least one visible character")
    if len(query.text) > limits.max_query_chars:
        raise InvalidRequest(
            f"{field}.text has {len(query.text)} characters, at most {limits.max_query_chars} are allowed "
            "(server.max_query_chars)"
        )
    for name in ("recent_sids", "recent_items"):
        count = len(getattr(query.user, name))
        if count > limits.max_recent:
            raise InvalidRequest(
                f"{field}.user.{name} has {count} entries, at most {limits.max_recent} are allowed (server.max_recent)"
            )
    for term in query.user.recent_sids:
        try:
            Sid.parse(term)
        except ValueError as error:
            raise InvalidRequest(f"{field}.user.recent_sids: {error}") from None


def blank(text: str) -> bool:
    """Whether a text has nothing to see: white space, control characters, marks without a letter, and fillers."""
    return all(unicodedata.category(character)[0] in "ZCM" or character in FILLERS for character in text)


def limits_message(limits: ServerSection) -> pb.Limits:
    """The limits in effect, for `Describe`."""
    return pb.Limits(**{name: _limit(name, limits) for name in pb.Limits.DESCRIPTOR.fields_by_name})


def _limit(setting: str, limits: ServerSection) -> int:
    """As set, but never more than can be pending at once: a larger call would be refused forever."""
    per_entry = {"max_queries": 1, "max_items": 1, "max_score_sids": limits.max_beam_width}
    limit: int = getattr(limits, setting)
    return min(limit, limits.max_pending * per_entry[setting]) if setting in per_entry else limit
