"""A call in flight: its deadline, the time of each stage, and what logs and spans record of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from genrecall.rpc import generative_recall_pb2 as pb


@dataclass
class CallContext:
    """One call of the service, from its arrival to its status.

    Attributes:
        client: whose call it is: what the metadata say by `server.client_metadata`, or the peer without its port.
        metadata: of the request, without binary values.
        arrived, deadline: on the clock of `time.monotonic`; no deadline is None.
        stages: milliseconds by stage: prepare, queue, compute, reply.
        attributes: what logs and spans record, by key. Never a text.
        texts: of its queries; logged only with `server.log_queries`.
    """

    method: str
    peer: str
    client: str
    metadata: Mapping[str, str]
    arrived: float
    deadline: float | None
    stages: dict[str, float] = field(default_factory=dict)
    attributes: dict[str, str | int] = field(default_factory=dict)
    texts: Sequence[str] = ()

    @classmethod
    def of(cls, method: str, context: grpc.aio.ServicerContext, client_key: str) -> CallContext:
        arrived, remaining, peer = time.monotonic(), context.time_remaining(), context.peer()
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        client = metadata.get(client_key) or peer.rpartition(":")[0]
        return cls(method, peer, client, metadata, arrived, None if remaining is None else arrived + remaining)

    @property
    def request_id(self) -> str:
        """`x-request-id` of the metadata, at most 128 characters; "" where the client sent none."""
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
        """For the reply of a call that was computed."""
        return pb.Timings(
            queue_ms=self.stages["queue"],
            encode_ms=self.stages["prepare"],
            search_ms=self.stages["compute"],
            total_ms=self.total_ms,
        )

    def log_fields(self) -> dict[str, str | int | float]:
        """What logs and spans record."""
        fields: dict[str, str | int | float] = {"peer": self.peer, **self.attributes}
        if self.request_id:
            fields["request_id"] = self.request_id
        return fields | {f"{stage}_ms": round(spent_ms, 2) for stage, spent_ms in self.stages.items()}
