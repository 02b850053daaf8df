"""Length-prefixed messages over a stream: 4 bytes of length, then the message."""

from __future__ import annotations

import asyncio
import logging
import struct
from abc import ABC, abstractmethod
from typing import cast

from google.protobuf.message import DecodeError, Message

from inference_server.telemetry.logs import event

log = logging.getLogger(__name__)
HEADER = struct.Struct("<I")
MAX_FRAME = 64 << 20
"""Bytes. The largest reply that the default limits allow, 256 queries of 1024 SIDs, is 4 MiB."""


class TooLarge(Exception):
    """The message is larger than MAX_FRAME and was not sent."""


class FramedConnection(asyncio.Protocol, ABC):
    """One end of a connection. A frame that cannot be read ends it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    @abstractmethod
    def received(self, data: bytes) -> None:
        """Called with each message; raises DecodeError for bytes that cannot be parsed."""

    def send(self, message: Message) -> None:
        """Does nothing once the connection has ended. Raises TooLarge."""
        data = message.SerializeToString()
        if len(data) > MAX_FRAME:
            raise TooLarge(f"a message of {len(data)} bytes, the processes of a server exchange at most {MAX_FRAME}")
        if self._transport is not None:
            self._transport.write(HEADER.pack(len(data)) + data)

    def end(self) -> None:
        """Close the connection once everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # what asyncio passes for a stream

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= HEADER.size:
            (size,) = HEADER.unpack_from(self._buffer, at)
            end = at + HEADER.size + size
            if size > MAX_FRAME:
                return self.refuse(f"a message of {size} bytes, at most {MAX_FRAME} are read")
            if len(self._buffer) < end:
                break
            try:
                self.received(bytes(self._buffer[at + HEADER.size : end]))
            except DecodeError as error:
                return self.refuse(f"malformed message ({error})")
            at = end
        del self._buffer[:at]

    def refuse(self, reason: str) -> None:
        """Close the connection at once."""
        event(log, logging.ERROR, "connection refused", None, reason=reason)
        if self._transport is not None:
            self._transport.abort()
