"""What goes on while an alias moves under it: searches sent by the clock, and a writer that keeps a book of its own."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError, TransportError

from genrecall.config.opensearch import OpenSearchSection
from index_mappings import search
from index_mappings.compose.composer import Composer

SIZE = 100
NAMES = {"include_named_queries_score": "true"}
AT_ONCE = 100  # searches under way; far more than a rate of some tens needs
BLOCKED = (403, "cluster_block_exception")


@dataclass(frozen=True)
class Answer:
    """Of one search.

    Attributes:
        sent: the moment, of `time.monotonic`.
        seconds: from the moment it was due, so that a late sender counts too.
        stale: hits whose SID is of the other codebook: a pipeline placed the document just before the alias moved, its
            write came after, and the job has not placed it anew yet. The plugin brings none of them, as shards
            drop what is not of their codebook; a composed clause asked in both while the move was announced.
        wrong: what is.
    """

    phase: str
    composed: bool
    sent: float
    seconds: float
    index: str
    stale: tuple[str, ...]
    wrong: str


class Searches:
    """An open loop: `rate` hybrid searches a second on the alias, whatever came of those before; no two ask the same.

    Every third is composed by the client (`index_mappings.compose.composer`) where a composer is given; the others are
    left to the plugin.
    """

    def __init__(
        self,
        section: OpenSearchSection,
        composer: Composer | None,
        texts: Sequence[str],
        rate: float,
        client: OpenSearch | None = None,
        dimension: int = 384,
    ) -> None:
        self.phase = ""
        self._section, self._composer, self._texts, self._pause = section, composer, texts, 1 / rate
        self._client = client or OpenSearch(section.url, timeout=60, pool_maxsize=AT_ONCE, max_retries=0)
        self._vectors = np.random.default_rng(0).normal(size=(512, dimension)).astype(np.float32)
        self._answers: list[Future[Answer]] = []
        self._ended = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            sender = threading.Thread(target=self._send, args=(pool,))
            sender.start()
            try:
                yield
            finally:
                self._ended.set()
                sender.join()

    @property
    def answers(self) -> list[Answer]:
        """Of every search that was sent, once `running` is left."""
        return [answer.result() for answer in self._answers]

    def _send(self, pool: ThreadPoolExecutor) -> None:
        began = time.monotonic()
        for number in itertools.count():
            due = began + number * self._pause
            if self._ended.wait(max(0.0, due - time.monotonic())):
                return
            self._answers.append(pool.submit(self._ask, number, due, self.phase))

    def _ask(self, number: int, due: float, phase: str) -> Answer:
        text = f"{self._texts[number % len(self._texts)]} {number}"
        section, composed = self._section, self._composer is not None and number % 3 == 0
        clauses = [
            search.bm25(text, section),
            search.knn(self._vectors[number % len(self._vectors)], 10),
            search.generative(text, k=50, timeout="30s", _name="gen"),
        ]
        body = search.body(search.hybrid(clauses, depth=SIZE), SIZE, section.fusion.three, ["sid"])
        index, stale, wrong, sent = "", (), "", time.monotonic()
        try:
            if composed and self._composer:
                body = self._composer.compose(body, index=section.index)
            answer = self._client.search(index=section.index, body=body, params=NAMES)
            index, stale, wrong = self.judged(answer, composed)
        except Exception as error:  # whatever it is, it is an answer that a user did not get
            wrong = f"{type(error).__name__}: {error} {getattr(error, 'info', '')}"[:2000]
        return Answer(phase, composed, sent, time.monotonic() - due, index, stale, wrong)

    def judged(self, answer: Mapping[str, Any], composed: bool) -> tuple[str, tuple[str, ...], str]:
        """As the function."""
        return judged(answer, self._section.index, composed)


def answering(answer: Mapping[str, Any]) -> tuple[str, str]:
    """(the one index that answered, what is wrong where it is not one that answered whole)."""
    shards = answer["_shards"]
    if answer["timed_out"] or shards["failed"] or shards["successful"] != shards["total"]:
        return "", f"shards failed: {json.dumps(shards)[:500]}"
    indices = {hit["_index"] for hit in answer["hits"]["hits"]}
    if len(indices) != 1:
        return "", f"hits from {sorted(indices)}"
    return indices.pop(), ""


def judged(answer: Mapping[str, Any], alias: str, composed: bool) -> tuple[str, tuple[str, ...], str]:
    """(index that answered, stale hits, what is wrong with the answer)."""
    index, wrong = answering(answer)
    if wrong:
        return "", (), wrong
    hits = answer["hits"]["hits"]
    codebook = index.removeprefix(f"{alias}-")
    others = [hit for hit in hits if not str(hit["_source"].get("sid")).startswith(f"{codebook}/")]
    stale = tuple(hit["_id"] for hit in others)
    for hit in others:
        if ("gen" in hit.get("matched_queries", ()) and not composed) or "sid" not in hit["_source"]:
            return index, stale, f"{hit['_id']} of {index} has SID {hit['_source'].get('sid')}"
    if not any("gen" in hit.get("matched_queries", ()) for hit in hits):
        return index, stale, "the generative clause matched nothing"
    return index, stale, ""


class Writer:
    """Updates, adds, deletes and brings back documents through the alias, one after the other.

    What is refused because writes are blocked it repeats, as a writer must; any other refusal ends it, unless `repeats`
    says otherwise.

    Attributes:
        documents: what the alias must hold: id -> source without SID.
        refused: seconds for which a write was refused, each time.
    """

    def __init__(self, section: OpenSearchSection, pause: float, client: OpenSearch | None = None) -> None:
        self._alias, self._pause = section.index, pause
        self._client = client or OpenSearch(section.url, timeout=60, max_retries=0)
        self.documents = {id: plain(source) for id, source in everything(self._client, self._alias).items()}
        self.writes = 0
        self.refused: list[float] = []
        self._numbers = itertools.count()
        self._error: Exception | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Raises what ended the writer, if anything did."""
        ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        if self._error:
            raise self._error

    def _run(self, ended: threading.Event) -> None:
        try:
            while not ended.wait(self._pause):
                self._write(next(self._numbers))
        except Exception as error:
            self._error = error

    def _write(self, number: int) -> None:
        client, alias, book = self._client, self._alias, self.documents
        ids = sorted(book)
        some = ids[number * 7919 % len(ids)]
        fresh = {"title": f"blue jumper of wool number {number}", "brand": "Marmark", "category": ["Clothing"]}
        match number % 6:
            case 0 | 1 | 2:
                change = {"title": f"{book[some]['title'].partition(' / ')[0]} / written {number}"}
                self._repeated(lambda: client.update(index=alias, id=some, body={"doc": change}))
                book[some] = {**book[some], **change}
            case 3:
                self._repeated(lambda: client.index(index=alias, id=self.new_id(number), body=fresh))
                book[self.new_id(number)] = fresh
            case 4:
                self._repeated(lambda: client.delete(index=alias, id=some))
                del book[some]
            case _:
                self._repeated(lambda: client.delete(index=alias, id=some))
                self._repeated(lambda: client.index(index=alias, id=some, body=fresh))
                book[some] = fresh

    def new_id(self, number: int) -> str:
        return f"new-{number}"

    def repeats(self, error: TransportError) -> bool:
        """Whether a write that failed so is repeated."""
        return (error.status_code, error.error) == BLOCKED

    def _repeated(self, write: Any) -> None:
        since: float | None = None
        while True:
            try:
                write()
            except TransportError as error:
                if isinstance(error, NotFoundError) and since is not None:
                    break  # deleted by an earlier attempt, whose response was lost
                if not self.repeats(error):
                    raise
                since = since or time.monotonic()
                time.sleep(0.01)
            else:
                break
        self.writes += 1
        if since is not None:
            self.refused.append(time.monotonic() - since)


def everything(client: OpenSearch, index: str) -> dict[str, dict[str, Any]]:
    """Every document; AssertionError where one is there twice or the count differs."""
    client.indices.refresh(index=index)
    hits = client.search(index=index, body={"size": 10_000, "query": {"match_all": {}}})["hits"]["hits"]
    found = {hit["_id"]: hit["_source"] for hit in hits}
    assert len(found) == len(hits) == client.count(index=index)["count"]
    return found


def plain(source: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in source.items() if name != "sid"}


def table(answers: Sequence[Answer]) -> str:
    """Latencies by phase, milliseconds."""
    lines = ["phase      queries  failed     p50     p99   worst"]
    for phase in dict.fromkeys(answer.phase for answer in answers):
        some = [answer for answer in answers if answer.phase == phase]
        took = 1e3 * np.array([answer.seconds for answer in some])
        p50, p99 = np.percentile(took, [50, 99])
        failed = sum(bool(answer.wrong) for answer in some)
        lines.append(f"{phase:10} {len(some):7} {failed:7} {p50:7.0f} {p99:7.0f} {took.max():7.0f}")
    return "\n".join(lines)
