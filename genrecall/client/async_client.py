"""The client of the inference server for asyncio: `genrecall.client.sync_client`, call by call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
import numpy as np

from genrecall.client import messages
from genrecall.client.connection import Connection
from genrecall.client.errors import ServerError
from genrecall.client.messages import CallFlow, Item, Reply, T, User
from genrecall.client.retry import Deadline
from genrecall.rpc import generative_recall_pb2 as pb


class AsyncClient(Connection):
    """As `genrecall.client.sync_client.Client`, with coroutines. To be made and used inside one running event loop."""

    _library = grpc.aio

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self._closed = True
        await self._channel.close()

    async def generate(
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
        """As `Client.generate`."""
        return await self._run(
            messages.generate(self._limits, texts, codebook, k, beam_width, users, memory), timeout_s
        )

    async def score(
        self, text: str, codes: np.ndarray, *, codebook: str, user: User | None = None, memory: bool = True
    ) -> np.ndarray:
        """As `Client.score`."""
        return await self._run(messages.score(text, codes, codebook, user, memory))

    async def encode(self, items: Sequence[Item | Mapping[str, Any]], *, codebook: str) -> np.ndarray:
        """As `Client.encode`."""
        return await self._run(messages.encode(self._limits, items, codebook))

    async def describe(self) -> pb.DescribeResponse:
        """As `Client.describe`."""
        return await self._run(messages.describe())

    async def _run(self, flow: CallFlow[T], timeout_s: float | None = None) -> T:
        deadline = self._deadline(timeout_s)
        try:
            call = next(flow)
            while True:
                try:
                    reply = await self._call(*call, deadline)
                except ServerError as error:
                    flow.throw(error)
                call = flow.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _call(self, name: str, request: Any, deadline: Deadline) -> Any:
        state = self._retry_state(deadline)
        while True:
            try:
                reply = await getattr(self._stub, name)(request, timeout=state.next_timeout_s())
            except grpc.RpcError as error:
                await asyncio.sleep(state.wait_s(error))
            else:
                self._budget.answered()
                return reply
