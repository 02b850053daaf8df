"""The `generative` clause without the plugin: a query that holds it becomes one that any OpenSearch answers.

    composer = Composer(OpenSearch(...), Client("127.0.0.1:50051"))
    body = {"query": {"generative": {"sid": {"query_text": "red running shoes", "k": 50}}}}
    client.search(index="products", body=composer.compose(body, index="products"))

Same JSON, same options and refusals, same hits and scores: each clause, wherever it stands, is replaced by
`SHOULD(constant_score(term(sid)) ^ p)`, or by what its `on_failure` says. `index` is what will be searched; its mapping
names the codebook, as for the plugin, and is kept for `Settings.mapping_ttl_s`.

Weaker than the plugin, as no shard looks again (docs/without_plugin.md has all of it):
- When the alias moves to another codebook's index between the look at the mapping and the search, the terms are those
  of the old codebook and the clause matches nothing. `index = composer.indices("products")` closes that gap: it names
  the indices behind the alias, and those compose and search alike whatever the alias does meanwhile; the index of
  before is there as long as it is kept for a rollback. A filter or a routing of the alias is passed by, though.
  `mapping_ttl_s=0` narrows the gap instead, to the time between two requests.
- Without `index`, nothing is looked up: each clause has to assert its `codebook` or give `sids`, and a field or a
  codebook that is not the index's matches nothing instead of failing.
- Where one of several indices cannot be searched so (another codebook, no such field), the whole query is refused,
  where the plugin fails the shards of that index alone.

What is asked and what becomes of the answers is a generator without I/O, `composing`; `Composer` and `AsyncComposer`
run it. Options are read by `options`, mappings by `mappings`.
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
from index_mappings.compose.options import NOBODY, Clause, ClauseError, Prompt, Sids, parse
from index_mappings.search import sid_terms

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch, OpenSearch

    from genrecall.client import AsyncClient, Client, Reply

__all__ = ["AsyncComposer", "ClauseError", "Composer", "NoSids", "Settings"]

Body = dict[str, Any]
T = TypeVar("T")

# Below these keys stand names that the caller chose, so `generative` may be one of them.
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
    """Of a composer; the first three are the plugin's cluster settings of the same names.

    Attributes:
        timeout_s: of a call to the inference server, where the clause tells none.
        max_k: largest `k`.
        max_query_length: characters of `query_text`.
        mapping_ttl_s: how long the mapping of an index is kept; 0: it is read for every query.
    """

    timeout_s: float = 1.0
    max_k: int = 512
    max_query_length: int = 1000
    mapping_ttl_s: float = 5.0


@dataclass(frozen=True)
class Ask:
    """One `Generate` call, to be answered with its Reply or its ServerError."""

    codebook: str
    k: int
    beam_width: int
    timeout_s: float
    prompts: tuple[Prompt, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """Of `generate`, of either client."""
        return {
            "texts": [prompt.text for prompt in self.prompts],
            "users": [None if prompt.user == NOBODY else vars(prompt.user) for prompt in self.prompts],
            "codebook": self.codebook,
            "k": self.k,
            "beam_width": self.beam_width,
            "timeout_s": self.timeout_s,
        }


Steps = Generator[ReadMapping | list[Ask], Any, T]  # is sent the answer, or the answers in the order asked; returns T


# --- from a body to a body, without I/O


def composing(
    body: Body, index: Index | None, mappings: Mappings, settings: Settings, failures: Counter[str]
) -> Steps[Body]:
    """`body` with its clauses replaced; `failures` counts what `on_failure` had to cover, by kind.

    Raises ClauseError for a mistake in a clause, and NoSids.
    """
    while clauses := found(body, settings):  # again for those inside an `on_failure` that took a clause's place
        searched = (yield from mappings.read(index)) if index is not None else None
        wanted = [questions(clause, searched, settings) for clause in clauses]
        told = yield from answers(question for some in wanted if not isinstance(some, NoSids) for question in some)
        queries = iter([becomes(clause, some, told, failures) for clause, some in zip(clauses, wanted, strict=True)])
        body = replaced(body, partial(_next, queries))
    return body


def found(body: Body, settings: Settings) -> list[Clause]:
    """The clauses of `body`, checked, those within an `on_failure` left out."""
    clauses: list[Clause] = []

    def read(fields: Body) -> Body:
        clause = parse(fields)
        if isinstance(clause.on_failure, dict):
            found(clause.on_failure, settings)  # a mistake there is one even while nothing fails
        if clause.prompt:
            check_limits(clause.prompt, settings)
        clauses.append(clause)
        return {}

    replaced(body, read)
    return clauses


def replaced(node: Any, become: Callable[[Body], Body], under: str = "") -> Any:
    """A copy of `node` with `become(fields)` in the place of every `{"generative": fields}`, first to last."""
    if isinstance(node, dict):
        if is_clause(node, under):
            return become(node["generative"])
        return {key: replaced(value, become, key) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [replaced(value, become) for value in node]
    return node


def _next(queries: Iterator[Body], _: Body) -> Body:
    return next(queries)


def is_clause(node: Body, under: str) -> bool:
    """Whether it is ours, and not something of the caller's that bears the same name (an aggregation, a field).

    What holds no object is left as it is: OpenSearch refuses it by name.
    """
    if [*node] != ["generative"] or under in NAMES:
        return False
    fields = node["generative"]
    return isinstance(fields, dict) and (not fields or any(isinstance(options, dict) for options in fields.values()))


def check_limits(prompt: Prompt, settings: Settings) -> None:
    if prompt.k > settings.max_k:
        raise ClauseError(
            f"[generative] k [{prompt.k}] is too large: this composer allows {settings.max_k}. Ask for less, or raise "
            "Settings.max_k (up to 1024)"
        )
    if len(prompt.text) > settings.max_query_length:
        raise ClauseError(
            f"[generative] query_text is too long: {len(prompt.text)} characters, where this composer allows "
            f"{settings.max_query_length}. Shorten it, or raise Settings.max_query_length"
        )


def questions(clause: Clause, searched: Searched | None, settings: Settings) -> list[Question] | NoSids:
    """What the model is asked for a clause, one question a codebook: none for given SIDs, or where nothing is searched.

    Raises ClauseError where the field or the codebook is not that of a searched index.
    """
    if clause.sids is not None:
        codebooks = [*clause.sids]
    elif clause.codebook is not None:
        codebooks = [clause.codebook]
    elif searched is None:
        raise ClauseError("[generative] codebook is missing: tell compose the index that will be searched, or give it")
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
    if clause.prompt is None:
        return []
    timeout_s = clause.timeout_s or settings.timeout_s
    announced = searched.announced if searched is not None and clause.codebook is None else []
    return [
        *(Question(codebook, clause.prompt, timeout_s) for codebook in codebooks),
        *(Question(codebook, clause.prompt, timeout_s, required=False) for codebook in announced),
    ]


def becomes(clause: Clause, wanted: Sequence[Question] | NoSids, told: Told, failures: Counter[str]) -> Body:
    """The query in place of a clause, which fails as a whole: one codebook of two that is not held takes the other."""
    if clause.sids is not None:
        return sid_query(clause, chain.from_iterable(clause.sids.values()))
    pairs = [(wanted, True)] if isinstance(wanted, NoSids) else [(told[asked], asked.required) for asked in wanted]
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

    OpenSearch hands them on so, from any query to what it is rewritten to.
    """
    ((kind, options),) = query.items()
    levels = [options, *options.values()] if isinstance(options, dict) and len(options) == 1 else [options]
    own = {name: value for level in levels if isinstance(level, dict) for name, value in level.items()}
    handed_on = {name: value for name, value in common.items() if own.get(name, 1) == 1 and value != 1}
    if not handed_on:
        return query
    if is_clause(query, ""):
        return {kind: {field: {**of, **handed_on} for field, of in options.items()}}
    return {"bool": {"must": [query], **handed_on}}


def sid_query(clause: Clause, sids: Iterable[tuple[str, float]]) -> Body:
    """Any of the SIDs of `min_score` or more, a document scoring the probability of its own."""
    kept = [(term, probability) for term, probability in sids if probability >= clause.min_score]
    if not kept:
        return {"match_none": {**clause.common}}
    terms, probabilities = zip(*kept, strict=True)
    query = sid_terms(terms, probabilities, clause.field)
    return {"bool": {**query["bool"], **clause.common}}


# --- the model's answers


@dataclass(frozen=True)
class Question:
    """required: an announced codebook is worth asking in, and not worth failing for."""

    codebook: str
    prompt: Prompt
    timeout_s: float
    required: bool = field(default=True, compare=False)


Told = Mapping[Question, Sids | NoSids]


def answers(wanted: Iterable[Question]) -> Steps[Told]:
    """What the model says to each: equal questions are asked once, and those that can share a call do."""
    together: dict[tuple[str, int, int, float], list[Prompt]] = {}
    for asked in dict.fromkeys(wanted):
        key = asked.codebook, asked.prompt.k, asked.prompt.beam_width, asked.timeout_s
        together.setdefault(key, []).append(asked.prompt)
    calls = [Ask(*key, prompts=tuple(prompts)) for key, prompts in together.items()]
    told: dict[Question, Sids | NoSids] = {}
    while calls:
        again: list[Ask] = []
        for call, answer in zip(calls, (yield calls), strict=True):
            outcomes = [read_answer(call, answer, i) for i in range(len(call.prompts))]
            if len(outcomes) > 1 and isinstance(outcomes[0], NoSids) and outcomes[0].kind == "invalid_request":
                # One prompt of them is at fault, and the others must not pay for it.
                again += [replace(call, prompts=(prompt,)) for prompt in call.prompts]
                continue
            for prompt, outcome in zip(call.prompts, outcomes, strict=True):
                told[Question(call.codebook, prompt, call.timeout_s)] = outcome
        calls = again
    return told


def read_answer(call: Ask, answer: Reply | ServerError, i: int) -> Sids | NoSids:
    """What became of the i-th prompt of a call."""
    if isinstance(answer, ServerError):
        kind = KINDS.get(answer.code, "server_error")
        return NoSids(kind, f"{answer}; [on_failure] can let the search go on without it", answer)
    codes = answer.codes[i].tolist()
    with np.errstate(over="ignore"):
        probabilities = np.exp(answer.scores[i].astype(np.float64)).astype(np.float32)
    if len(codes) > call.k or not np.isfinite(probabilities).all():
        return NoSids(
            "server_error",
            f"the inference server broke the contract: asked for {call.k} SIDs with log-probabilities, it answered "
            f"with {len(codes)}, of {answer.scores[i][:3].tolist()}: use a server of this client's version",
        )
    return [(Sid(*sid).term(call.codebook), p) for sid, p in zip(codes, probabilities.tolist(), strict=True)]


# --- the shells


class _Composer:
    """What both have: settings, the mappings kept, and `failures`, what `on_failure` covered or raised, by kind."""

    def __init__(self, client: Any, server: Any, settings: Settings = Settings()) -> None:
        self._client, self._server = client, server
        self.settings = settings
        self.failures: Counter[str] = Counter()
        self._mappings = Mappings(settings.mapping_ttl_s)

    def _composing(self, body: Body, index: Index | None) -> Steps[Body]:
        return composing(body, index, self._mappings, self.settings, self.failures)

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
        return self._run(self._composing(body, index))

    def indices(self, index: Index) -> str:
        """What to compose for and search in place of an alias that may move meanwhile: the indices behind it."""
        return self._run(self._mappings.read(index)).names

    def _run(self, steps: Steps[T]) -> T:
        answer: Any = None
        try:
            while True:
                step = steps.send(answer)
                answer = self._mapping(step) if isinstance(step, ReadMapping) else [*map(self._ask, step)]
        except StopIteration as end:
            result: T = end.value
            return result

    def _ask(self, call: Ask) -> Reply | ServerError:
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
        return await self._run(self._composing(body, index))

    async def indices(self, index: Index) -> str:
        """As `Composer.indices`."""
        return (await self._run(self._mappings.read(index))).names

    async def _run(self, steps: Steps[T]) -> T:
        answer: Any = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, ReadMapping):
                    answer = await self._mapping(step)
                else:
                    answer = await asyncio.gather(*map(self._ask, step))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _ask(self, call: Ask) -> Reply | ServerError:
        try:
            reply: Reply = await self._server.generate(**call.arguments)
            return reply
        except ServerError as error:
            return error
