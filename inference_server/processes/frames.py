"""Messages over a stream: each is its length, 4 bytes, and its bytes."""

from __future__ import annotations

import asyncio
import logging
import struct
from abc import ABC, abstractmethod
from typing import cast

from google.protobuf.message import DecodeError, Message

from inference_server.telemetry.logs import event

log = logging.getLogger(__name__)
HEAD = struct.Struct("<I")
MAX_FRAME = 64 << 20
"""Bytes. The largest reply that the default limits allow, 256 queries of 1024 SIDs, is 4 MiB."""


class TooLarge(Exception):
    """A message that may not be sent."""


class Frames(asyncio.Protocol, ABC):
    """One end of a connection. What it cannot read ends it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    @abstractmethod
    def received(self, data: bytes) -> None:
        """A message came; raises DecodeError for one that is none."""

    def send(self, message: Message) -> None:
        """Nothing where the connection has ended. Raises TooLarge."""
        data = message.SerializeToString()
        if len(data) > MAX_FRAME:
            raise TooLarge(f"a message of {len(data)} bytes, at most {MAX_FRAME} go between the processes of a server")
        if self._transport is not None:
            self._transport.write(HEAD.pack(len(data)) + data)

    def end(self) -> None:
        """End the connection, once all is sent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # as that of a stream is

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= HEAD.size:
            (size,) = HEAD.unpack_from(self._buffer, at)
            end = at + HEAD.size + size
            if size > MAX_FRAME:
                return self.refuse(f"a message of {size} bytes, at most {MAX_FRAME} are read")
            if len(self._buffer) < end:
                break
            try:
                self.received(bytes(self._buffer[at + HEAD.size : end]))
            except DecodeError as error:
                return self.refuse(f"bytes that are no message ({error})")
            at = end
        del self._buffer[:at]

    def refuse(self, reason: str) -> None:
        """End the connection at once."""
        event(log, logging.ERROR, "connection refused", None, reason=reason)
        if self._transport is not None:
            self._transport.abort()
