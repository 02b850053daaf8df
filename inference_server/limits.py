"""What a request may ask for. Each refusal names the field, the value and the limit."""

from __future__ import annotations

from dataclasses import dataclass

from genrecall.config.server import ServerSection
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.sid import Sid


class Invalid(Exception):
    """A request that the server will not run."""


@dataclass(frozen=True)
class Asked:
    """A checked `Generate` request."""

    codebook: str
    texts: list[str]
    users: list[pb.User | None]
    k: int
    beam_width: int


def check_generate(request: pb.GenerateRequest, limits: ServerSection) -> Asked:
    """Apply defaults and limits; raises Invalid."""
    if not request.queries:
        raise Invalid("queries is empty: send at least one")
    if len(request.queries) > limits.max_queries:
        raise Invalid(
            f"queries has {len(request.queries)} entries, at most {limits.max_queries} are allowed in one call"
        )
    for i, query in enumerate(request.queries):
        _check_query(f"queries[{i}]", query, limits)
    k = request.k or limits.default_k
    if k > limits.max_k:
        raise Invalid(f"k is {k}, at most {limits.max_k} is allowed (server.max_k)")
    beam_width = request.beam_width or k
    if beam_width < k:
        raise Invalid(f"beam_width is {beam_width}, it must be at least k = {k}")
    if beam_width > limits.max_beam_width:
        raise Invalid(f"beam_width is {beam_width}, at most {limits.max_beam_width} is allowed (server.max_beam_width)")
    users = [query.user if query.HasField("user") else None for query in request.queries]
    return Asked(request.codebook, [query.text for query in request.queries], users, k, beam_width)


def _check_query(field: str, query: pb.Query, limits: ServerSection) -> None:
    if not query.text.strip():
        raise Invalid(f"{field}.text is empty: a query needs at least one visible character")
    if len(query.text) > limits.max_query_chars:
        raise Invalid(
            f"{field}.text has {len(query.text)} characters, at most {limits.max_query_chars} are allowed "
            "(server.max_query_chars)"
        )
    for name in ("recent_sids", "recent_items"):
        found = len(getattr(query.user, name))
        if found > limits.max_recent:
            raise Invalid(
                f"{field}.user.{name} has {found} entries, at most {limits.max_recent} are allowed (server.max_recent)"
            )
    for term in query.user.recent_sids:
        try:
            Sid.parse(term)
        except ValueError as error:
            raise Invalid(f"{field}.user.recent_sids: {error}") from None


def describe(limits: ServerSection) -> pb.Limits:
    """The limits as `Describe` tells them."""
    names = pb.Limits.DESCRIPTOR.fields_by_name
    return pb.Limits(**{name: getattr(limits, name) for name in names})
