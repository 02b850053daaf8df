"""One call under way: when it came, until when, where its time goes, and what may be told of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from genrecall.rpc import generative_recall_pb2 as pb


@dataclass
class Call:
    """One call of the service.

    Attributes:
        metadata: what the client sent beside the request; of binary values, none.
        arrived, deadline: on the clock of `time.monotonic`; no deadline is None.
        stages: milliseconds by stage: prepare, queue, compute, reply.
        facts: what logs and spans tell of it, by key. Never a text.
        texts: of its queries; logged only where `server.log_queries` says so.
    """

    method: str
    peer: str
    metadata: Mapping[str, str]
    arrived: float
    deadline: float | None
    stages: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str | int] = field(default_factory=dict)
    texts: Sequence[str] = ()

    @classmethod
    def of(cls, method: str, context: grpc.aio.ServicerContext) -> Call:
        arrived, remaining = time.monotonic(), context.time_remaining()
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        return cls(method, context.peer(), metadata, arrived, None if remaining is None else arrived + remaining)

    @property
    def request_id(self) -> str:
        """`x-request-id` of the metadata, cut; "" where the client sent none."""
        return self.metadata.get("x-request-id", "")[:128]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.stages[name] = (time.monotonic() - began) * 1e3

    @property
    def total_ms(self) -> float:
        return (time.monotonic() - self.arrived) * 1e3

    def timings(self) -> pb.Timings:
        """Of a call that was computed."""
        return pb.Timings(
            queue_ms=self.stages["queue"],
            encode_ms=self.stages["prepare"],
            search_ms=self.stages["compute"],
            total_ms=self.total_ms,
        )

    def told(self) -> dict[str, str | int | float]:
        """What logs and spans tell of it."""
        told: dict[str, str | int | float] = {"peer": self.peer, **self.facts}
        if self.request_id:
            told["request_id"] = self.request_id
        return told | {f"{stage}_ms": round(spent_ms, 2) for stage, spent_ms in self.stages.items()}
