"""The `generative` clause without the plugin: a query that holds it becomes one that any OpenSearch answers.

    composer = Composer(OpenSearch(...), Client("127.0.0.1:50051"))
    body = {"query": {"generative": {"sid": {"query_text": "red running shoes", "k": 50}}}}
    client.search(index="products", body=composer.compose(body, index="products"))

Same JSON, same options and refusals, same hits and scores: each clause, wherever it stands, is replaced by
`SHOULD(constant_score(term(sid)) ^ p)`, with `order_within` by the form of `search.ordered_sids`, or by what its
`on_failure` says. `index` is what will be searched; its mapping
names the codebook, as for the plugin, and is cached for `Settings.mapping_ttl_s`.

Weaker than the plugin, as no shard checks again (docs/without_plugin.md lists all of it):
- When the alias moves to another codebook's index after the mapping was read and before the search, the terms are those
  of the old codebook and the clause matches nothing. `index = composer.indices("products")` avoids that: it names the
  indices behind the alias, to compose for and to search, wherever the alias points meanwhile; the previous index exists
  as long as it is kept for a rollback. A filter or a routing of the alias does not apply, though. `mapping_ttl_s=0`
  narrows the gap instead, to the time between two requests.
- Without `index`, no mapping is read: each clause has to assert its `codebook` or give `sids`, and a field or a
  codebook that is not the index's matches nothing instead of failing.
- Where one of several indices cannot be searched so (another codebook, no such field), the whole query is refused,
  where the plugin fails the shards of that index alone.

Which requests are made and what is composed of the responses is a generator without I/O, `compose_steps`; `Composer`
and `AsyncComposer` run it. Options are read by `options`, mappings by `mappings`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import numpy as np

from genrecall.client import ServerError
from genrecall.errors import UserError
from genrecall.sid import Sid
from index_mappings.compose.mappings import Index, Mappings, ReadMapping, Searched
from index_mappings.compose.options import ANONYMOUS, Clause, ClauseError, ModelQuery, ScoredSid, ScoredSids, parse
from index_mappings.search import ordered_sids, sid_terms

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch, OpenSearch

    from genrecall.client import AsyncClient, Client, Reply

__all__ = ["AsyncComposer", "ClauseError", "Composer", "NoSids", "Settings"]

Body = dict[str, Any]
T = TypeVar("T")

# Below these keys are names that the caller chose, so `generative` may be one of them.
NAMES = {"aggs", "aggregations", "filters", "suggest", "params", "fields", "sort", "intervals", "knn", "neural"}
KINDS = {
    grpc.StatusCode.UNAVAILABLE: "unavailable",
    grpc.StatusCode.DEADLINE_EXCEEDED: "timeout",
    grpc.StatusCode.CANCELLED: "timeout",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "overload",
    grpc.StatusCode.FAILED_PRECONDITION: "codebook_not_held",
    grpc.StatusCode.INVALID_ARGUMENT: "invalid_request",
    grpc.StatusCode.OUT_OF_RANGE: "invalid_request",
}


class NoSids(UserError):
    """There are no SIDs for a clause, and its `on_failure` says "fail". `kind`: as in the table of docs/clause.md."""

    def __init__(self, kind: str, message: str, cause: Exception | None = None) -> None:
        super().__init__(f"[generative] {message}")
        self.kind = kind
        self.__cause__ = cause


@dataclass(frozen=True)
class Settings:
    """Of a composer; all but the last are the plugin's cluster settings of the same names.

    Attributes:
        timeout_s: of a call to the inference server, where the clause sets none.
        max_k, max_beam_width: largest `k` and `beam_width`.
        max_clauses: clauses of one body that ask the model.
        max_query_length: characters of `query_text`.
        mapping_ttl_s: how long the mapping of an index is cached; 0: it is read for every query.
    """

    timeout_s: float = 1.0
    max_k: int = 512
    max_beam_width: int = 512
    max_clauses: int = 16
    max_query_length: int = 1000
    mapping_ttl_s: float = 5.0


@dataclass(frozen=True)
class GenerateCall:
    """One `Generate` call; the step's result is its Reply or its ServerError."""

    codebook: str
    k: int
    beam_width: int
    memory: bool
    timeout_s: float
    queries: tuple[ModelQuery, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """Of `generate`, of either client."""
        return {
            "texts": [query.text for query in self.queries],
            "users": [None if query.user == ANONYMOUS else vars(query.user) for query in self.queries],
            "codebook": self.codebook,
            "k": self.k,
            "beam_width": self.beam_width,
            "memory": self.memory,
            "timeout_s": self.timeout_s,
        }


Steps = Generator[ReadMapping | list[GenerateCall], Any, T]  # is sent the mappings, or the results in order


# --- from a body to a body, without I/O


def compose_steps(
    body: Body, index: Index | None, mappings: Mappings, settings: Settings, failures: Counter[str]
) -> Steps[Body]:
    """`body` with its clauses replaced; `failures` counts what `on_failure` had to cover, by kind.

    Raises ClauseError for a mistake in a clause, and NoSids.
    """
    while clauses := clauses_of(body, settings):  # again for those inside an `on_failure` that replaced a clause
        searched = (yield from mappings.read(index)) if index is not None else None
        wanted = [sids_wanted(clause, searched, settings) for clause in clauses]
        results = yield from generate(one for some in wanted if not isinstance(some, NoSids) for one in some)
        queries = iter(
            [query_for(clause, some, results, failures) for clause, some in zip(clauses, wanted, strict=True)]
        )
        body = replace_clauses(body, partial(_next, queries))
    return body


def clauses_of(body: Body, settings: Settings) -> list[Clause]:
    """The clauses of `body`, checked, those within an `on_failure` left out."""
    clauses: list[Clause] = []

    def read(fields: Body) -> Body:
        clause = parse(fields)
        if isinstance(clause.on_failure, dict):
            clauses_of(clause.on_failure, settings)  # a mistake there is one even while nothing fails
        if clause.order_within:
            replace_clauses(clause.order_within.query, _refuse_within)
        if clause.query:
            check_limits(clause.query, settings)
        clauses.append(clause)
        return {}

    replace_clauses(body, read)
    if sum(clause.query is not None for clause in clauses) > settings.max_clauses:
        raise ClauseError(
            f"[generative] the search has more than {settings.max_clauses} clauses that ask the model, as many as this "
            "composer allows: ask for less at once, or raise Settings.max_clauses"
        )
    return clauses


def replace_clauses(node: Any, replacement: Callable[[Body], Body], under: str = "") -> Any:
    """A copy of `node` with `replacement(fields)` in place of every `{"generative": fields}`, first to last."""
    if isinstance(node, dict):
        if is_clause(node, under):
            return replacement(node["generative"])
        return {key: replace_clauses(value, replacement, key) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [replace_clauses(value, replacement) for value in node]
    return node


def _next(queries: Iterator[Body], _: Body) -> Body:
    return next(queries)


def _refuse_within(_: Body) -> Body:
    raise ClauseError(
        "[generative] order_within: its query holds another [generative]: combine two clauses by a [bool] or [hybrid] "
        "around them"
    )


def is_clause(node: Body, under: str) -> bool:
    """Whether it is ours, and not something of the caller's with the same name (an aggregation, a field).

    What is not an object is left as it is: OpenSearch refuses it by name.
    """
    if [*node] != ["generative"] or under in NAMES:
        return False
    fields = node["generative"]
    return isinstance(fields, dict) and (not fields or any(isinstance(options, dict) for options in fields.values()))


def check_limits(query: ModelQuery, settings: Settings) -> None:
    if query.k > settings.max_k:
        raise ClauseError(
            f"[generative] k [{query.k}] is too large: this composer allows {settings.max_k}. Ask for less, or raise "
            "Settings.max_k (up to 1024)"
        )
    if query.beam_width > settings.max_beam_width:
        raise ClauseError(
            f"[generative] beam_width [{query.beam_width}] is too large: this composer allows "
            f"{settings.max_beam_width}. Ask for less, or raise Settings.max_beam_width (up to 1024)"
        )


def check_text(query: ModelQuery, settings: Settings) -> NoSids | None:
    """What somebody typed is no mistake in the clause, so `on_failure` covers it."""
    if not query.text.strip():
        return NoSids("invalid_request", "query_text is empty: give the words of the search")
    if len(query.text) > settings.max_query_length:
        return NoSids(
            "invalid_request",
            f"query_text is too long: {len(query.text)} characters, where this composer allows "
            f"{settings.max_query_length}. Shorten it, or raise Settings.max_query_length",
        )
    return None


def sids_wanted(clause: Clause, searched: Searched | None, settings: Settings) -> list[SidsWanted] | NoSids:
    """What to generate for a clause, one entry per codebook: none for given SIDs, or where nothing is searched.

    Raises ClauseError where the field or the codebook is not that of a searched index.
    """
    if clause.query and (refused := check_text(clause.query, settings)):
        return refused
    if clause.sids is not None:
        codebooks = [*clause.sids]
    elif clause.codebook is not None:
        codebooks = [clause.codebook]
    elif searched is None:
        raise ClauseError("[generative] codebook is missing: give compose the index to be searched, or the codebook")
    else:
        codebooks = searched.codebooks
        if searched.names and not codebooks:
            return NoSids(
                "no_codebook",
                "no codebook is named by the mapping (_meta.genrecall.codebook) of the indices searched "
                f"[{searched.names}]. Search an index that was loaded with SIDs; for an index of a remote cluster give "
                "[codebook] in the clause",
            )
    if searched is not None:
        searched.check(clause.field, codebooks, clause.ignore_unmapped)
    if clause.query is None:
        return []
    timeout_s = clause.timeout_s or settings.timeout_s
    announced = searched.announced if searched is not None and clause.codebook is None else []
    return [
        *(SidsWanted(codebook, clause.query, timeout_s) for codebook in codebooks),
        *(SidsWanted(codebook, clause.query, timeout_s, required=False) for codebook in announced),
    ]


def query_for(clause: Clause, wanted: Sequence[SidsWanted] | NoSids, results: Results, failures: Counter[str]) -> Body:
    """The query in place of a clause, which fails as a whole: one codebook of two that is not held fails the other."""
    if clause.sids is not None:
        return sid_query(clause, chain.from_iterable(clause.sids.values()))
    pairs = [(wanted, True)] if isinstance(wanted, NoSids) else [(results[one], one.required) for one in wanted]
    outcomes = [outcome for outcome, _ in pairs]
    failure = next((outcome for outcome, required in pairs if required and isinstance(outcome, NoSids)), None)
    if failure is None:
        return sid_query(clause, chain.from_iterable(sids for sids in outcomes if not isinstance(sids, NoSids)))
    failures[failure.kind] += 1
    if clause.on_failure == "fail":
        raise failure
    return fallback(clause.on_failure, clause.common) if isinstance(clause.on_failure, dict) else {"match_none": {}}


def fallback(query: Body, common: Mapping[str, Any]) -> Body:
    """The query of `on_failure`, with the clause's `boost` and `_name` where it has none of its own.

    OpenSearch passes them on like that, from any query to what it is rewritten to.
    """
    ((kind, options),) = query.items()
    levels = [options, *options.values()] if isinstance(options, dict) and len(options) == 1 else [options]
    own = {name: value for level in levels if isinstance(level, dict) for name, value in level.items()}
    inherited = {name: value for name, value in common.items() if own.get(name, 1) == 1 and value != 1}
    if not inherited:
        return query
    if is_clause(query, ""):
        return {kind: {field: {**of, **inherited} for field, of in options.items()}}
    return {"bool": {"must": [query], **inherited}}


def sid_query(clause: Clause, sids: Iterable[ScoredSid]) -> Body:
    """Any of the SIDs of `min_score` or more, scored as the plugin does.

    Raises ClauseError where `order_within` lacks a number of items: the plugin then takes the document frequency of
    each shard, which no query expresses.
    """
    kept = [sid for sid in sids if sid.probability >= clause.min_score]
    if not kept:
        return {"match_none": {**clause.common}}
    terms = [sid.term for sid in kept]
    probabilities = [sid.probability for sid in kept]
    if clause.order_within is None:
        return {"bool": {**sid_terms(terms, probabilities, clause.field)["bool"], **clause.common}}
    items = [sid.items for sid in kept if sid.items]
    if len(items) < len(kept):
        raise ClauseError(
            "[generative] order_within: without the plugin the number of items of each SID is needed: give [items] "
            "beside [score], or use an inference server that tells it"
        )
    order, common = clause.order_within, {**clause.common}
    boost = common.pop("boost", 1.0)
    query = ordered_sids(terms, probabilities, items, order.query, order.weight, clause.field, boost)
    return {"bool": {**query["bool"], **common}}


# --- the SIDs that the model generates


@dataclass(frozen=True)
class SidsWanted:
    """SIDs of one codebook for a query. required: where false, a failure fails nothing (an announced codebook)."""

    codebook: str
    query: ModelQuery
    timeout_s: float
    required: bool = field(default=True, compare=False)


Results = Mapping[SidsWanted, ScoredSids | NoSids]


def generate(wanted: Iterable[SidsWanted]) -> Steps[Results]:
    """The SIDs of each: equal ones are generated once, and those that can share a call do."""
    together: dict[tuple[str, int, int, bool, float], list[ModelQuery]] = {}
    for one in dict.fromkeys(wanted):
        key = one.codebook, one.query.k, one.query.beam_width, one.query.memory, one.timeout_s
        together.setdefault(key, []).append(one.query)
    calls = [GenerateCall(*key, queries=tuple(queries)) for key, queries in together.items()]
    results: dict[SidsWanted, ScoredSids | NoSids] = {}
    while calls:
        again: list[GenerateCall] = []
        for call, reply in zip(calls, (yield calls), strict=True):
            outcomes = [read_reply(call, reply, i) for i in range(len(call.queries))]
            if len(outcomes) > 1 and isinstance(outcomes[0], NoSids) and outcomes[0].kind == "invalid_request":
                # One query of the call is invalid, and must not fail the others.
                again += [replace(call, queries=(query,)) for query in call.queries]
                continue
            for query, outcome in zip(call.queries, outcomes, strict=True):
                results[SidsWanted(call.codebook, query, call.timeout_s)] = outcome
        calls = again
    return results


def read_reply(call: GenerateCall, reply: Reply | ServerError, i: int) -> ScoredSids | NoSids:
    """The SIDs of the i-th query of a call."""
    if isinstance(reply, ServerError):
        kind = KINDS.get(reply.code, "server_error")
        return NoSids(kind, f"{reply}; [on_failure] can let the search go on without it", reply)
    codes = reply.codes[i].tolist()
    with np.errstate(over="ignore"):
        probabilities = np.exp(reply.scores[i].astype(np.float64)).astype(np.float32)
    items = reply.items[i].tolist() or [None] * len(codes)
    if len(codes) > call.k or not np.isfinite(probabilities).all():
        return NoSids(
            "server_error",
            f"the inference server broke the contract: asked for {call.k} SIDs with log-probabilities, it answered "
            f"with {len(codes)}, of {reply.scores[i][:3].tolist()}: use a server of this client's version",
        )
    sids = zip(codes, probabilities.tolist(), items, strict=True)
    return [ScoredSid(Sid(*sid).term(call.codebook), p, n) for sid, p, n in sids]


# --- with I/O


class _Composer:
    """What both have: settings, cached mappings, and `failures`, what `on_failure` covered or raised, by kind."""

    def __init__(self, client: Any, server: Any, settings: Settings = Settings()) -> None:
        self._client, self._server = client, server
        self.settings = settings
        self.failures: Counter[str] = Counter()
        self._mappings = Mappings(settings.mapping_ttl_s)

    def _steps(self, body: Body, index: Index | None) -> Steps[Body]:
        return compose_steps(body, index, self._mappings, self.settings, self.failures)

    def _mapping(self, step: ReadMapping) -> Any:
        return self._client.indices.get_mapping(index=step.index, params={"expand_wildcards": "open"})


class Composer(_Composer):
    """Composes with the blocking clients. May be shared among threads, as they may."""

    def __init__(self, client: OpenSearch, server: Client, settings: Settings = Settings()) -> None:
        super().__init__(client, server, settings)

    def compose(self, body: Body, index: Index | None = None) -> Body:
        """A copy of `body`, a query or a whole search request, with each `generative` clause replaced.

        Args:
            index: what will be searched: names, aliases, patterns; None: unknown, so that every clause has to assert
                its codebook or give SIDs.

        Raises:
            ClauseError: for a mistake in a clause, and for an index that it does not fit.
            NoSids: where there are no SIDs and `on_failure` is "fail".
        """
        return self._run(self._steps(body, index))

    def indices(self, index: Index) -> str:
        """What to compose for and search in place of an alias that may move meanwhile: the indices behind it."""
        return self._run(self._mappings.read(index)).names

    def _run(self, steps: Steps[T]) -> T:
        result: Any = None
        try:
            while True:
                step = steps.send(result)
                result = self._mapping(step) if isinstance(step, ReadMapping) else [*map(self._generate, step)]
        except StopIteration as end:
            value: T = end.value
            return value

    def _generate(self, call: GenerateCall) -> Reply | ServerError:
        try:
            reply: Reply = self._server.generate(**call.arguments)
            return reply
        except ServerError as error:
            return error


class AsyncComposer(_Composer):
    """As `Composer`, with coroutines. Calls for several codebooks run side by side."""

    def __init__(self, client: AsyncOpenSearch, server: AsyncClient, settings: Settings = Settings()) -> None:
        super().__init__(client, server, settings)

    async def compose(self, body: Body, index: Index | None = None) -> Body:
        """As `Composer.compose`."""
        return await self._run(self._steps(body, index))

    async def indices(self, index: Index) -> str:
        """As `Composer.indices`."""
        return (await self._run(self._mappings.read(index))).names

    async def _run(self, steps: Steps[T]) -> T:
        result: Any = None
        try:
            while True:
                step = steps.send(result)
                if isinstance(step, ReadMapping):
                    result = await self._mapping(step)
                else:
                    result = await asyncio.gather(*map(self._generate, step))
        except StopIteration as end:
            value: T = end.value
            return value

    async def _generate(self, call: GenerateCall) -> Reply | ServerError:
        try:
            reply: Reply = await self._server.generate(**call.arguments)
            return reply
        except ServerError as error:
            return error
