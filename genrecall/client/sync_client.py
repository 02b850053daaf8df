"""The blocking client of the inference server: numpy in and out, retries, gRPC statuses as one exception.

`genrecall.client.async_client` is the same for asyncio. Both are safe to share among threads, or tasks of one loop.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy as np

from genrecall.client import messages
from genrecall.client.connection import Connection
from genrecall.client.errors import ServerError
from genrecall.client.messages import CallFlow, Item, Reply, T, User
from genrecall.client.retry import Deadline, Retry
from genrecall.rpc import generative_recall_pb2 as pb

__all__ = ["Client", "Item", "Reply", "Retry", "ServerError"]


class Client(Connection):
    """A channel to the inference server, usable as a context manager. Options: see `Connection`.

    Every call raises ServerError when the server refuses it or cannot be reached, ValueError or TypeError for
    arguments that no server would take.
    """

    _library = grpc

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._closed = True
        self._channel.close()

    def generate(
        self,
        texts: Sequence[str],
        *,
        codebook: str = "",
        k: int = 0,
        beam_width: int = 0,
        users: Sequence[User | None] = (),
        memory: bool = True,
        timeout_s: float | None = None,
    ) -> Reply:
        """The likeliest SIDs of each text.

        More texts than the server accepts in one call are split into several, one after the other, all on one codebook.

        Args:
            codebook: empty: the server's current one, see `Reply.codebook`.
            k, beam_width: 0: the server's defaults.
            users: one per text, None where unknown; empty: none at all.
            memory: whether what people wanted for a text before counts, where the server's bundle remembers it.
            timeout_s: of this call; by default the client's.
        """
        return self._run(messages.generate(self._limits, texts, codebook, k, beam_width, users, memory), timeout_s)

    def score(
        self, text: str, codes: np.ndarray, *, codebook: str, user: User | None = None, memory: bool = True
    ) -> np.ndarray:
        """The log-probability of given SIDs for a text and a user: float32 [n], -inf for a SID that no item has.

        Args:
            codes: int [n, 3] of `codebook`, in any order, repeats allowed.
        """
        return self._run(messages.score(text, codes, codebook, user, memory))

    def encode(self, items: Sequence[Item | Mapping[str, Any]], *, codebook: str) -> np.ndarray:
        """The SIDs of new or changed items: int32 [n, 3], in the order of `items`.

        More items than the server accepts in one call are split into several. A mapping has the fields of `Item`.
        """
        return self._run(messages.encode(self._limits, items, codebook))

    def describe(self) -> pb.DescribeResponse:
        """Codebooks loaded, level sizes, limits, versions."""
        return self._run(messages.describe())

    def _run(self, flow: CallFlow[T], timeout_s: float | None = None) -> T:
        """Send each request that `flow` yields and hand it the reply, until it returns the result."""
        deadline = self._deadline(timeout_s)
        try:
            call = next(flow)
            while True:
                try:
                    reply = self._call(*call, deadline)
                except ServerError as error:
                    flow.throw(error)
                call = flow.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def _call(self, name: str, request: Any, deadline: Deadline) -> Any:
        state = self._retry_state(deadline)
        while True:
            try:
                reply = getattr(self._stub, name)(request, timeout=state.next_timeout_s())
            except grpc.RpcError as error:
                time.sleep(state.wait_s(error))
            else:
                self._budget.answered()
                return reply
