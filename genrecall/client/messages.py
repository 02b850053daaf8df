"""Builds requests from numpy and plain values, parses replies, splits large calls: what both clients share.

Each call is a generator that yields the requests to send, is sent their replies and returns the result. It does no I/O,
so the blocking and the asynchronous client run the same one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import numpy as np

from genrecall.client.errors import ServerError, within_whole_call
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.sid import LEVELS, MAX_CODE

T = TypeVar("T")
RequestPart = TypeVar("RequestPart", pb.Query, pb.Item)
CallFlow = Generator[tuple[str, Any], Any, T]  # yields (method, request), is sent the reply, returns T
User = pb.User | Mapping[str, Any]

MAX_TIMEOUT_S = 31_536_000  # a year
ENTRY_OVERHEAD_BYTES = 6  # at most, of the tag and length before a query or item
REQUEST_OVERHEAD_BYTES = 128  # at most, of all other fields of a request


@dataclass(frozen=True)
class Reply:
    """The result of `generate`.

    Attributes:
        codes: one int32 [n, 3] per query, likeliest first.
        scores: one float32 [n] per query, log-probabilities, descending.
        items: one int64 [n] per query, items that the codebook gave each SID; [0] from a server that does not tell.
        timings: milliseconds by stage: queue, encode, search, total; summed where a call was split.
    """

    codebook: str
    model: str
    codes: list[np.ndarray]
    scores: list[np.ndarray]
    items: list[np.ndarray]
    timings: dict[str, float]


@dataclass(frozen=True)
class Item:
    """An item to encode, in the fields of `genrecall.records.ITEMS`. `category` goes from general to specific."""

    item_id: str
    title: str
    category: Sequence[str] = ()
    brand: str = ""
    text: str = ""


@dataclass
class LimitsCache:
    """The limits of the server, requested once per client, by the first call of several entries."""

    known: pb.Limits | None = None

    def split(self, entries: list[RequestPart], limit: str) -> CallFlow[list[list[RequestPart]]]:
        """Parts of `entries`, in order, none with more entries or bytes than the server accepts in one call.

        limit: of the number of entries, `max_queries` or `max_items`.
        """
        if len(entries) < 2:
            return [entries]
        if self.known is None:
            self.known = (yield from describe()).limits
        return split(entries, getattr(self.known, limit), self.known.max_request_bytes)


def split(entries: list[RequestPart], max_entries: int, max_bytes: int) -> list[list[RequestPart]]:
    """Split greedily; an entry too large for any request becomes a part of its own, for the server to refuse."""
    parts: list[list[RequestPart]] = [[]]
    used = REQUEST_OVERHEAD_BYTES
    for entry in entries:
        size = entry.ByteSize() + ENTRY_OVERHEAD_BYTES
        if parts[-1] and (len(parts[-1]) == max_entries or used + size > max_bytes):
            parts.append([])
            used = REQUEST_OVERHEAD_BYTES
        parts[-1].append(entry)
        used += size
    return parts


def generate(
    limits: LimitsCache,
    texts: Sequence[str],
    codebook: str,
    k: int,
    beam_width: int,
    users: Sequence[User | None],
    memory: bool,
) -> CallFlow[Reply]:
    texts, users = _list("texts", texts), _list("users", users)
    if len(users) not in (0, len(texts)):
        raise ValueError(
            f"users has {len(users)} entries for {len(texts)} texts: give one each (None where unknown), or none"
        )
    _check_number("k", k)
    _check_number("beam_width", beam_width)
    _text("codebook", codebook)
    queries = [
        pb.Query(
            text=_text(f"texts[{i}]", text),
            user=_user(f"users[{i}]", users[i]) if users else None,
            without_memory=not memory,
        )
        for i, text in enumerate(texts)
    ]
    replies: list[pb.GenerateResponse] = []
    sent = 0
    for part in (yield from limits.split(queries, "max_queries")):
        request = pb.GenerateRequest(codebook=codebook, queries=part, k=k, beam_width=beam_width)
        reply = yield from _part("Generate", request, sent)
        sent += len(part)
        _verify(reply.codebook, codebook, len(reply.results), len(part))
        codebook = reply.codebook  # all parts use the codebook of the first reply
        for result in reply.results:
            _verify(reply.codebook, codebook, len(result.codes), LEVELS * len(result.scores))
            if result.items:
                _verify(reply.codebook, codebook, len(result.items), len(result.scores))
        replies.append(reply)
    results = [result for reply in replies for result in reply.results]
    return Reply(
        codebook=codebook,
        model=replies[0].model,
        codes=[_codes(result.codes) for result in results],
        scores=[np.array(result.scores, np.float32) for result in results],
        items=[np.array(result.items, np.int64) for result in results],
        timings={
            name.removesuffix("_ms"): sum(getattr(reply.timings, name) for reply in replies)
            for name in pb.Timings.DESCRIPTOR.fields_by_name
        },
    )


def score(text: str, codes: np.ndarray, codebook: str, user: User | None, memory: bool) -> CallFlow[np.ndarray]:
    _check_codebook(codebook)
    try:
        codes = np.asarray(codes)
    except ValueError:
        raise ValueError(f"codes must be integers of shape [n, {LEVELS}], found rows of several lengths") from None
    if not codes.size:
        return np.empty(0, np.float32)
    if codes.ndim != 2 or codes.shape[1] != LEVELS or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"codes must be integers of shape [n, {LEVELS}], found {codes.dtype} {list(codes.shape)}")
    if codes.min() < 0:
        raise ValueError(f"codes has {codes.min()}: codes are zero-based, leave out rows that are no SID")
    if codes.max() > MAX_CODE:
        raise ValueError(f"codes has {codes.max()}: no code is above {MAX_CODE}")
    query = pb.Query(text=_text("text", text), user=_user("user", user), without_memory=not memory)
    reply = yield "Score", pb.ScoreRequest(codebook=codebook, query=query, codes=codes.ravel().tolist())
    _verify(reply.codebook, codebook, len(reply.scores), len(codes))
    return np.array(reply.scores, np.float32)


def encode(limits: LimitsCache, items: Sequence[Item | Mapping[str, Any]], codebook: str) -> CallFlow[np.ndarray]:
    _check_codebook(codebook)
    encoded = [np.empty((0, LEVELS), np.int32)]
    entries = [_item(f"items[{i}]", item) for i, item in enumerate(_list("items", items))]
    sent = 0
    for part in (yield from limits.split(entries, "max_items")) if entries else ():
        reply = yield from _part("Encode", pb.EncodeRequest(codebook=codebook, items=part), sent)
        sent += len(part)
        _verify(reply.codebook, codebook, len(reply.codes), LEVELS * len(part))
        encoded.append(_codes(reply.codes))
    return np.concatenate(encoded)


def describe() -> CallFlow[pb.DescribeResponse]:
    reply: pb.DescribeResponse = yield "Describe", pb.DescribeRequest()
    return reply


def _part(method: str, request: Any, first: int) -> CallFlow[Any]:
    """One call of several, of entries from `first` on; its error names the entry as the caller counts."""
    try:
        return (yield method, request)
    except ServerError as error:
        raise within_whole_call(error, first) from None


def _item(name: str, item: Item | Mapping[str, Any]) -> pb.Item:
    if not isinstance(item, Item | Mapping):
        raise TypeError(f"{name} is {item!r}: give an Item, or a mapping of its fields")
    fields = dict(item if isinstance(item, Mapping) else vars(item))
    if unknown := fields.keys() - pb.Item.DESCRIPTOR.fields_by_name.keys():
        raise ValueError(
            f"{name}: an item has no field {', '.join(sorted(map(repr, unknown)))}: see genrecall.client.Item"
        )
    category = _texts(f"{name}.category", fields.pop("category", ()))
    return pb.Item(**{field: _text(f"{name}.{field}", value) for field, value in fields.items()}, category=category)


def _user(name: str, user: User | None) -> User | None:
    if user is None or isinstance(user, pb.User):
        return user
    if not isinstance(user, Mapping):
        raise TypeError(f"{name} is {user!r}: give a mapping of the fields of genrecall.v1.User")
    known = pb.User.DESCRIPTOR.fields_by_name
    if unknown := user.keys() - known.keys():
        raise ValueError(
            f"{name}: a user has no field {', '.join(sorted(map(repr, unknown)))}; it has {', '.join(known)}"
        )
    read: dict[str, Any] = {field: _texts if field.startswith("recent") else _text for field in known}
    return pb.User(**{field: read[field](f"{name}.{field}", value) for field, value in user.items()})


def _list(name: str, values: Iterable[T]) -> list[T]:
    if isinstance(values, str | bytes):
        raise TypeError(f"{name} is one string, {values!r}: give a list of them")
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"{name} is {values!r}: give a list")
    return list(values)


def _texts(name: str, values: Iterable[object]) -> list[str]:
    return [_text(f"{name}[{n}]", value) for n, value in enumerate(_list(name, values))]


def _check_codebook(codebook: str) -> None:
    if not _text("codebook", codebook):
        raise ValueError("codebook is empty: codes belong to one, so name it")


def _text(name: str, text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name} is {text!r}: give a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} has half of a surrogate pair at character {error.start}, which is no text: read it as UTF-16, or "
            'drop it by .encode("utf-8", "ignore").decode()'
        ) from None
    return text


def check_timeout(seconds: float) -> None:
    """ValueError for what is no time to wait; gRPC takes a very long one for none at all."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_TIMEOUT_S:
        raise ValueError(f"timeout_s is {seconds!r}: give seconds, from 0 to {MAX_TIMEOUT_S}")


def _check_number(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**31:
        raise ValueError(f"{name} is {value!r}: give a number from 0 (the server's default) to {2**31 - 1}")


def _codes(flat: Sequence[int]) -> np.ndarray:
    """int32 [n, 3] of 3 x n."""
    return np.array(flat, np.int32).reshape(-1, LEVELS)


def _verify(codebook: str, requested: str, values: int, expected: int) -> None:
    """Raises ServerError for a reply of another codebook or of another size than requested."""
    if values != expected or (requested and codebook != requested):
        raise ServerError(
            f"the inference server broke the contract: {expected} values of codebook {requested or 'any'!r} expected, "
            f"{values} of {codebook!r} found: use a server of this client's version",
            grpc.StatusCode.INTERNAL,
        )
