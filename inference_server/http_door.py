"""A small door for those who have no gRPC at hand: `Generate` and `Describe` as JSON over HTTP. Needs the extra `http`.

    POST /v1/generate   the JSON form of `GenerateRequest` -> that of `GenerateResponse`
    GET  /v1/describe   -> that of `DescribeResponse`

The same methods answer as over gRPC, with the same checks, limits, metrics and logs. An error is `{"code", "message"}`,
the gRPC status by its number, beside the HTTP status that goes with it. `Grpc-Timeout: 200m` (H, M, S, m, u, n, as in
gRPC) is the deadline; other headers are metadata. Plaintext, hence on loopback unless told otherwise.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

from google.protobuf import json_format
from google.protobuf.message import Message
from grpc import StatusCode as Status

from genrecall.addresses import is_loopback
from genrecall.errors import UserError
from genrecall.rpc import generative_recall_pb2 as pb
from inference_server.service import GenerativeRecall
from inference_server.telemetry.logs import event

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)
HTTP_STATUS = {
    Status.INVALID_ARGUMENT: 400,
    Status.FAILED_PRECONDITION: 400,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.UNAVAILABLE: 503,
    Status.DEADLINE_EXCEEDED: 504,
}
UNIT_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Aborted(Exception):
    """A method ended with an error."""

    def __init__(self, code: Status, message: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self.code, self.message, self.metadata = code, message, metadata


class HttpContext:
    """What the service asks of a call, of one that came over HTTP."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        timeout = request.headers.get("Grpc-Timeout")
        match = re.fullmatch(r"(\d{1,8})([HMSmun])", timeout or "0S")
        if match is None:
            raise Aborted(Status.INVALID_ARGUMENT, f"Grpc-Timeout is {timeout!r}: give a number and a unit, as 200m")
        self._timeout_s = int(match[1]) * UNIT_S[match[2]] if timeout else None

    def peer(self) -> str:
        return f"http:{self._request.remote}:"

    def time_remaining(self) -> float | None:
        return self._timeout_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple((name.lower(), value) for name, value in self._request.headers.items())

    async def abort(self, code: Status, message: str, metadata: tuple[tuple[str, str], ...] = ()) -> NoReturn:
        raise Aborted(code, message, metadata)


@asynccontextmanager
async def serve_http(service: GenerativeRecall) -> AsyncIterator[int | None]:
    """Serve inside the context, on `server.http_port`; yields the port, None where none is set.

    At the end calls in flight are finished, for `server.shutdown_grace_s` at most. Raises UserError where the address
    is in use or aiohttp is not installed.
    """
    section = service.section
    if section.http_port is None:
        yield None
        return
    if find_spec("aiohttp") is None:
        raise UserError(
            f"server.http_port is {section.http_port}, but aiohttp is not installed: pip install 'genrecall[http]', or "
            "leave it out"
        )
    from aiohttp import web

    if not is_loopback(section.http_host):
        event(log, logging.WARNING, "plaintext", http_host=section.http_host, remedy="put a proxy with TLS before it")
    application = web.Application(client_max_size=section.max_request_bytes)
    application.router.add_post("/v1/generate", _handler(service.Generate, pb.GenerateRequest))
    application.router.add_get("/v1/describe", _handler(service.Describe, pb.DescribeRequest))
    runner = web.AppRunner(
        application, access_log=None, shutdown_timeout=section.shutdown_grace_s, handler_cancellation=True
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, section.http_host, section.http_port).start()
        except OSError as error:
            raise UserError(
                f"HTTP cannot listen on {section.http_host}:{section.http_port} ({error}): choose another "
                "server.http_port or stop who uses it"
            ) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _handler(
    method: Callable[[Any, Any], Awaitable[Message]], form: type[Message]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    from aiohttp import web

    async def handle(request: web.Request) -> web.Response:
        try:
            reply = await method(await _read(request, form), HttpContext(request))
        except Aborted as error:
            body = {"code": error.code.value[0], "message": error.message}
            return web.json_response(body, status=HTTP_STATUS.get(error.code, 500), headers=dict(error.metadata))
        return web.json_response(text=json_format.MessageToJson(reply, preserving_proto_field_name=True, indent=None))

    return handle


async def _read(request: web.Request, form: type[Message]) -> Message:
    if request.method == "GET":
        return form()
    if request.content_type != "application/json":  # which a page of another site cannot send without asking
        raise Aborted(Status.INVALID_ARGUMENT, f"the content type is {request.content_type!r}: send application/json")
    try:
        return json_format.Parse(await request.text(), form())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise Aborted(Status.INVALID_ARGUMENT, f"the request cannot be read: {error}") from None
