"""Requests built from numpy and plain values, replies taken apart, large calls cut: what both clients share.

Each call of the contract is a generator that yields the requests to send, is sent their replies and returns the answer.
It does no I/O, so the blocking and the asynchronous client run the same one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import numpy as np

from genrecall.client.errors import ServerError
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.sid import LEVELS

T = TypeVar("T")
Entry = TypeVar("Entry", pb.Query, pb.Item)
Calls = Generator[tuple[str, Any], Any, T]  # yields (name of the call, request), is sent the reply, returns T
User = pb.User | Mapping[str, Any]

ENTRY_BYTES = 6  # at most, of the tag and the length that go before an entry
REQUEST_BYTES = 128  # at most, of all other fields of a request


@dataclass(frozen=True)
class Reply:
    """What `generate` answers.

    Attributes:
        codes: one int32 [n, 3] a query, likeliest first.
        scores: one float32 [n] a query, log-probabilities, descending.
        timings: milliseconds by stage: queue, encode, search, total; summed where a call was cut.
    """

    codebook: str
    model: str
    codes: list[np.ndarray]
    scores: list[np.ndarray]
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
class Limits:
    """The server's limits, asked once a client and only by a call of several entries."""

    known: pb.Limits | None = None

    def cut(self, entries: list[Entry], most: str) -> Calls[list[list[Entry]]]:
        """Parts of `entries`, in order, none with more entries or bytes than the server takes in one call.

        most: which limit is that of entries, `max_queries` or `max_items`.
        """
        if len(entries) < 2:
            return [entries]
        if self.known is None:
            self.known = (yield from describe()).limits
        return parts(entries, getattr(self.known, most), self.known.max_request_bytes)


def parts(entries: list[Entry], most: int, most_bytes: int) -> list[list[Entry]]:
    """Cut greedily; an entry too large for any request is left alone, for the server to refuse by name."""
    made: list[list[Entry]] = [[]]
    used = REQUEST_BYTES
    for entry in entries:
        size = entry.ByteSize() + ENTRY_BYTES
        if made[-1] and (len(made[-1]) == most or used + size > most_bytes):
            made.append([])
            used = REQUEST_BYTES
        made[-1].append(entry)
        used += size
    return made


def generate(
    limits: Limits, texts: Sequence[str], codebook: str, k: int, beam_width: int, users: Sequence[User | None]
) -> Calls[Reply]:
    if isinstance(texts, str):
        raise TypeError(f"texts is one string, {texts!r}: give a list of them")
    if len(users) not in (0, len(texts)):
        raise ValueError(
            f"users has {len(users)} entries for {len(texts)} texts: give one each (None: nobody), or none"
        )
    queries = [pb.Query(text=text, user=users[i] if users else None) for i, text in enumerate(texts)]
    replies: list[pb.GenerateResponse] = []
    for part in (yield from limits.cut(queries, "max_queries")):
        request = pb.GenerateRequest(codebook=codebook, queries=part, k=k, beam_width=beam_width)
        reply = yield "Generate", request
        codebook = _checked(reply.codebook, codebook, len(reply.results), len(part))  # the next part asks for the same
        for result in reply.results:
            _checked(reply.codebook, codebook, len(result.codes), LEVELS * len(result.scores))
        replies.append(reply)
    results = [result for reply in replies for result in reply.results]
    return Reply(
        codebook=codebook,
        model=replies[0].model,
        codes=[_codes(result.codes) for result in results],
        scores=[np.array(result.scores, np.float32) for result in results],
        timings={
            name.removesuffix("_ms"): sum(getattr(reply.timings, name) for reply in replies)
            for name in pb.Timings.DESCRIPTOR.fields_by_name
        },
    )


def score(text: str, codes: np.ndarray, codebook: str, user: User | None) -> Calls[np.ndarray]:
    codes = np.asarray(codes)
    if not codes.size:
        return np.empty(0, np.float32)
    if codes.ndim != 2 or codes.shape[1] != LEVELS or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"codes must be integers of shape [n, {LEVELS}], found {codes.dtype} {list(codes.shape)}")
    if codes.min() < 0:
        raise ValueError(f"codes has {codes.min()}: codes are zero-based, leave out rows that are no SID")
    query = pb.Query(text=text, user=user)
    reply = yield "Score", pb.ScoreRequest(codebook=codebook, query=query, codes=codes.ravel().tolist())
    _checked(reply.codebook, codebook, len(reply.scores), len(codes))
    return np.array(reply.scores, np.float32)


def encode(limits: Limits, items: Sequence[Item | Mapping[str, Any]], codebook: str) -> Calls[np.ndarray]:
    encoded = [np.empty((0, LEVELS), np.int32)]
    entries = [_item(item) for item in items]
    for part in (yield from limits.cut(entries, "max_items")) if entries else ():
        reply = yield "Encode", pb.EncodeRequest(codebook=codebook, items=part)
        _checked(reply.codebook, codebook, len(reply.codes), LEVELS * len(part))
        encoded.append(_codes(reply.codes))
    return np.concatenate(encoded)


def describe() -> Calls[pb.DescribeResponse]:
    reply: pb.DescribeResponse = yield "Describe", pb.DescribeRequest()
    return reply


def _item(item: Item | Mapping[str, Any]) -> pb.Item:
    fields = item if isinstance(item, Mapping) else vars(item)
    if isinstance(fields.get("category"), str):
        raise TypeError(f"category is one string, {fields['category']!r}: give a list, from general to specific")
    return pb.Item(**fields)


def _codes(flat: Sequence[int]) -> np.ndarray:
    """int32 [n, 3] of 3 x n."""
    return np.array(flat, np.int32).reshape(-1, LEVELS)


def _checked(answered: str, asked: str, found: int, wanted: int) -> str:
    """The codebook that answered, if it is the one asked for and the reply is complete: never a wrong answer."""
    if found != wanted or (asked and answered != asked):
        raise ServerError(
            f"the inference server broke the contract: {wanted} values of codebook {asked or 'any'!r} expected, "
            f"{found} of {answered!r} found: use a server of this client's version",
            grpc.StatusCode.INTERNAL,
        )
    return answered
