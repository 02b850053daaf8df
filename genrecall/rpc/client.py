"""A small typed client of the inference server: numpy in and out, gRPC statuses as one exception.

Owns channel, deadline and decoding of the packed reply. Retries and asynchronous use are the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np

from genrecall.errors import UserError
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub

REPLY_LIMIT = 64 << 20  # bytes; the largest call the server allows stays well below


class ServerError(UserError):
    """The server refused a call or could not be reached. `code` is the gRPC status."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Reply:
    """What `Generate` answered.

    Attributes:
        codes: one int32 [n, 3] a query, likeliest first.
        scores: one float32 [n] a query, log-probabilities, descending.
        timings: milliseconds by stage: queue, encode, search, total.
    """

    codebook: str
    model: str
    codes: list[np.ndarray]
    scores: list[np.ndarray]
    timings: dict[str, float]


class Client:
    """A channel to one inference server, usable as a context manager.

    Args:
        endpoint: `host:port`.
        timeout_s: deadline of each call.
        trusted_certificates: PEM file; given, the channel uses TLS.
    """

    def __init__(self, endpoint: str, timeout_s: float = 10.0, trusted_certificates: Path | None = None) -> None:
        options = [("grpc.max_receive_message_length", REPLY_LIMIT)]
        if trusted_certificates:
            credentials = grpc.ssl_channel_credentials(trusted_certificates.read_bytes())
            self._channel = grpc.secure_channel(endpoint, credentials, options)
        else:
            self._channel = grpc.insecure_channel(endpoint, options)
        self.endpoint = endpoint
        self._timeout = timeout_s
        self._stub = GenerativeRecallStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def generate(
        self,
        texts: Sequence[str],
        *,
        codebook: str = "",
        k: int = 0,
        beam_width: int = 0,
        users: Sequence[pb.User] = (),
    ) -> Reply:
        """The likeliest SIDs of each text. `users` is empty or as long as `texts`; zeros mean the server's defaults."""
        queries = [pb.Query(text=text, user=users[i] if users else None) for i, text in enumerate(texts)]
        request = pb.GenerateRequest(codebook=codebook, queries=queries, k=k, beam_width=beam_width)
        reply = self._call(self._stub.Generate, request)
        return Reply(
            codebook=reply.codebook,
            model=reply.model,
            codes=[np.array(result.codes, np.int32).reshape(-1, 3) for result in reply.results],
            scores=[np.array(result.scores, np.float32) for result in reply.results],
            timings={
                name.removesuffix("_ms"): getattr(reply.timings, name) for name in pb.Timings.DESCRIPTOR.fields_by_name
            },
        )

    def describe(self) -> pb.DescribeResponse:
        """Codebooks held, level sizes, limits, versions."""
        return self._call(self._stub.Describe, pb.DescribeRequest())

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code == grpc.StatusCode.UNAVAILABLE:
                details = (
                    f"no inference server answers at {self.endpoint} ({details}): start one with `genrecall serve`"
                )
            elif code == grpc.StatusCode.DEADLINE_EXCEEDED:
                details = f"the inference server at {self.endpoint} did not answer within {self._timeout:g} s"
            raise ServerError(details, code) from None
