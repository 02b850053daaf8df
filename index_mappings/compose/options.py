"""The options of one `generative` clause, read from its JSON and refused as the plugin refuses them.

docs/clause.md documents them. What is refused here is a mistake in the clause, which `on_failure` never covers.
Everything is checked before the inference server is called. Types are strict: a number in quotes, which OpenSearch
coerces, is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from genrecall.errors import UserError
from genrecall.sid import Sid, check_codebook

DEFAULT_K = 50
MAX_K = 1024  # Lucene's default limit of clauses in a query
MAX_INT = 2**31 - 1  # of a code and of `beam_width`, int32 in the contract
MAX_TIMEOUT_S = 60.0
MAX_RECENT = 100
MAX_ATTRIBUTE_LENGTH = 64
MAX_ID_LENGTH = 512  # that of a document's id
FORM = 'write {"generative": {"FIELD": {"query_text": "..."}}}'
_DURATION = re.compile(r"(\d+)(ms|s|m)", re.ASCII)
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0}


class ScoredSid(NamedTuple):
    """items: how many the codebook gave the SID; None: not known."""

    term: str
    probability: float
    items: int | None


ScoredSids = Sequence[ScoredSid]  # likeliest first


class ClauseError(UserError):
    """A mistake in a clause: the message names option, value and remedy. The plugin answers 400."""


@dataclass(frozen=True)
class UserContext:
    """The user who searches."""

    gender: str = ""
    age_band: str = ""
    recent_sids: tuple[str, ...] = ()
    recent_items: tuple[str, ...] = ()


ANONYMOUS = UserContext()


@dataclass(frozen=True)
class ModelQuery:
    """What SIDs are generated for, whichever the codebook.

    Attributes:
        beam_width: 0: as wide as k needs.
        memory: whether what people wanted for the text before counts.
    """

    text: str
    k: int
    beam_width: int
    user: UserContext
    memory: bool


@dataclass(frozen=True)
class OrderWithin:
    """What orders the items of the SIDs: `weight` x the score of `query`."""

    query: dict[str, Any]
    weight: float


@dataclass(frozen=True)
class Clause:
    """One clause, checked. It has either a `query` or `sids`.

    Attributes:
        sids: by codebook.
        codebook: asserted; None: that of the index.
        timeout_s: None: the composer's.
        on_failure: "fail", "match_none" or a query.
        common: `boost` and `_name`, where they were set.
    """

    field: str
    query: ModelQuery | None
    sids: Mapping[str, ScoredSids] | None
    codebook: str | None
    timeout_s: float | None
    on_failure: str | dict[str, Any]
    min_score: float
    ignore_unmapped: bool
    order_within: OrderWithin | None
    common: Mapping[str, Any]


def parse(fields: Mapping[str, Any]) -> Clause:
    """The clause of `{FIELD: {...}}`, which is what `generative` holds. ClauseError for what the plugin refuses."""
    if not fields:
        raise ClauseError(f"[generative] names no field: {FORM}")
    if len(fields) > 1:
        raise ClauseError(f"[generative] takes one field, found {[*fields]}: write a clause for each")
    ((field, options),) = fields.items()
    if not isinstance(options, dict):
        raise ClauseError(f"[generative] [{field}] is not an object: {FORM}")
    for name in options:
        if name not in _READERS:
            raise ClauseError(f"[generative] unknown option [{name}]: those known are {', '.join(_READERS)}")
    values = {name: _READERS[name](name, value) for name, value in options.items()}
    if ("query_text" in values) == ("sids" in values):
        found = "has both query_text and sids" if "sids" in values else "has neither query_text nor sids"
        raise ClauseError(f"[generative] {found}: give one of them")
    codebook = values.get("codebook")
    return Clause(
        field=field,
        query=_model_query(values) if "query_text" in values else None,
        sids=_sids_by_codebook(values, codebook) if "sids" in values else None,
        codebook=codebook,
        timeout_s=values.get("timeout"),
        on_failure=values.get("on_failure", "fail"),
        min_score=values.get("min_score", 0.0),
        ignore_unmapped=values.get("ignore_unmapped", False),
        order_within=values.get("order_within"),
        common={name: values[name] for name in ("boost", "_name") if name in values},
    )


def _model_query(values: Mapping[str, Any]) -> ModelQuery:
    text, k, beam_width = values["query_text"], values.get("k", DEFAULT_K), values.get("beam_width", 0)
    if not 1 <= k <= MAX_K:
        raise ClauseError(f"[generative] k [{k}] is out of range: choose 1 to {MAX_K}")
    if beam_width and not k <= beam_width <= MAX_INT:
        where = f"below k [{k}]" if beam_width < k else "out of range"
        raise ClauseError(
            f"[generative] beam_width [{beam_width}] is {where}: choose at least k, or 0 to let the server choose"
        )
    return ModelQuery(text, k, beam_width, values.get("user", ANONYMOUS), values.get("memory", True))


def _sids_by_codebook(values: Mapping[str, Any], codebook: str | None) -> dict[str, ScoredSids]:
    """The entries of `sids` by codebook, in their order."""
    unfit = [name for name in ("k", "beam_width", "user", "memory", "timeout", "on_failure") if name in values]
    if unfit:
        raise ClauseError(f"[generative] [{', '.join(unfit)}] belong to query_text, not to sids: leave them out")
    entries: list[tuple[str, ScoredSid]] = values["sids"]
    if not entries and codebook is None:
        raise ClauseError("[generative] sids is empty: give at least one, such as v7/12/40/733")
    if len(entries) > MAX_K:
        raise ClauseError(f"[generative] sids has {len(entries)} entries: give {MAX_K} or less")
    sids: dict[str, dict[str, ScoredSid]] = {} if codebook is None else {codebook: {}}
    for of, sid in entries:
        if codebook is not None and of != codebook:
            raise ClauseError(
                f"[generative] sids: [{sid.term}] is not of codebook [{codebook}]: leave codebook out to mix codebooks"
            )
        if sid.term in sids.setdefault(of, {}):
            raise ClauseError(f"[generative] sids: [{sid.term}] is given twice: give it once")
        sids[of][sid.term] = sid
    return {of: list(by_term.values()) for of, by_term in sorted(sids.items())}


# --- one value each


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ClauseError(f"[generative] {name} [{value}] is not text: write it in quotes")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ClauseError(f"[generative] {name} [{value}] is not a number: write one such as 0.5")
    return float(value)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ClauseError(f"[generative] {name} [{value}] is not an integer: write one such as 50")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ClauseError(f"[generative] {name} [{value}] is neither true nor false")
    return value


def _min_score(name: str, value: Any) -> float:
    score = _number(name, value)
    if score < 0:
        raise ClauseError(f"[generative] {name} [{value}] is not a probability: choose 0 to 1")
    return score


def _boost(name: str, value: Any) -> float:
    boost = _number(name, value)
    if boost < 0:
        raise ClauseError(f"[generative] negative {name} [{value}]: choose 0 or more")
    return boost


def _codebook(name: str, value: Any) -> str:
    try:
        return check_codebook(_text(name, value))
    except ValueError:
        raise ClauseError(
            f"[generative] {name} [{value}] is not a valid name: use 1 to 64 letters, digits, '.', '_' or '-', such "
            "as v7"
        ) from None


def _timeout(name: str, value: Any) -> float:
    """Seconds."""
    match = _DURATION.fullmatch(_text(name, value))
    if not match:
        raise ClauseError(f"[generative] {name} [{value}] is not a duration: write a number and a unit, such as 40ms")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if not 1e-3 <= seconds <= MAX_TIMEOUT_S:
        raise ClauseError(f"[generative] {name} [{value}] is out of range: choose 1ms to 60s")
    return seconds


def _on_failure(name: str, value: Any) -> str | dict[str, Any]:
    if value in ("fail", "match_none") or (isinstance(value, dict) and len(value) == 1):
        chosen: str | dict[str, Any] = value
        return chosen
    raise ClauseError(
        f'[generative] {name} [{value}] is unknown: write "fail", "match_none" or a query such as {{"match_all": {{}}}}'
    )


def _user(name: str, value: Any) -> UserContext:
    if not isinstance(value, dict):
        raise ClauseError(
            f'[generative] {name} [{value}] is not an object: write {{"gender": "f", "recent_sids": [...]}}'
        )
    parts: dict[str, Any] = {}
    for part, content in value.items():
        option = f"{name}.{part}"
        match part:
            case "gender" | "age_band":
                parts[part] = _short(option, content, MAX_ATTRIBUTE_LENGTH)
            case "recent_items":
                parts[part] = tuple(_short(option, item, MAX_ID_LENGTH) for item in _recent(option, content))
            case "recent_sids":
                parts[part] = tuple(_term(option, term)[1] for term in _recent(option, content))
            case _:
                raise ClauseError(
                    f"[generative] unknown option [{option}]: a user has gender, age_band, recent_sids, recent_items"
                )
    return UserContext(**parts)


def _short(option: str, value: Any, most: int) -> str:
    if len(_text(option, value)) > most:
        raise ClauseError(f"[generative] {option} has a value of {len(value)} characters: shorten it to {most} or less")
    return str(value)


def _recent(option: str, value: Any) -> Sequence[Any]:
    entries = _several(value)
    if len(entries) > MAX_RECENT:
        raise ClauseError(f"[generative] {option} has {len(entries)} entries: give the newest {MAX_RECENT} at most")
    return entries


def _sids(name: str, value: Any) -> list[tuple[str, ScoredSid]]:
    """The codebook and the SID of each entry; a term alone scores 1."""
    found = []
    for entry in _several(value):
        about = entry if isinstance(entry, dict) else {"sid": entry}
        if unknown := about.keys() - {"sid", "score", "items"}:
            raise ClauseError(
                f"[generative] {name}: unknown option {sorted(unknown)}: an entry has sid, score and items"
            )
        if "sid" not in about:
            raise ClauseError(
                f'[generative] {name}: an entry has no sid: write {{"sid": "v7/12/40/733", "score": 0.5}}'
            )
        codebook, term = _term(name, about["sid"])
        score = _number(f"{name}: score", about.get("score", 1))
        if score < 0:
            raise ClauseError(
                f"[generative] {name}: score [{score}] of [{term}] is out of range: it must be finite and not negative"
            )
        items = _integer(f"{name}: items", about["items"]) if "items" in about else None
        if items is not None and not 1 <= items <= MAX_INT:
            raise ClauseError(
                f"[generative] {name}: items [{items}] of [{term}] is out of range: give 1 or more, or leave it out"
            )
        found.append((codebook, ScoredSid(term, score, items)))
    return found


def _order_within(name: str, value: Any) -> OrderWithin:
    form = f'{name}: write {{"query": {{"match": {{"title": "..."}}}}, "weight": 1}}'
    if not isinstance(value, dict):
        raise ClauseError(f"[generative] {name} [{value}] is not an object: {form}")
    if unknown := value.keys() - {"query", "weight"}:
        raise ClauseError(f"[generative] {name}: unknown option {sorted(unknown)}: it has query and weight")
    if "query" not in value:
        raise ClauseError(f"[generative] {name} has no query: {form}")
    query = value["query"]
    if not isinstance(query, dict) or len(query) != 1:
        raise ClauseError(f"[generative] {name}: query [{query}] is no query: {form}")
    weight = _number(f"{name}: weight", value.get("weight", 1))
    if weight < 0:
        raise ClauseError(f"[generative] {name}: weight [{weight}] is out of range: it must be finite and not negative")
    return OrderWithin(query, weight)


def _term(option: str, value: Any) -> tuple[str, str]:
    """(codebook, term) of a SID term."""
    try:
        codebook, sid = Sid.parse(_text(option, value))
    except ValueError:
        sid = None
    if sid is None or max(sid.codes) > MAX_INT:
        raise ClauseError(
            f"[generative] {option}: [{value}] is not a SID term: write CODEBOOK/c1/c2/c3, such as v7/12/40/733"
        )
    return codebook, sid.term(codebook)


def _several(value: Any) -> Sequence[Any]:
    """A single value is a list of it, as for OpenSearch."""
    return value if isinstance(value, list | tuple) else [value]


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "query_text": _text,
    "sids": _sids,
    "k": _integer,
    "beam_width": _integer,
    "user": _user,
    "memory": _flag,
    "timeout": _timeout,
    "on_failure": _on_failure,
    "codebook": _codebook,
    "min_score": _min_score,
    "ignore_unmapped": _flag,
    "order_within": _order_within,
    "boost": _boost,
    "_name": _text,
}
