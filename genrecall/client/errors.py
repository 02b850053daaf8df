"""gRPC errors as one exception, with the status and a remedy."""

from __future__ import annotations

import os
import re

import grpc

from genrecall.errors import UserError

PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # of the environment, which gRPC follows
PUSHBACK = "grpc-retry-pushback-ms"


class ServerError(UserError):
    """The server refused a call, could not be reached or sent an invalid reply. `code` is the gRPC status."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


def pushback_ms(error: grpc.RpcError) -> str | None:
    """The wait that the server asks for, unparsed from the trailing metadata; None where it asks for none."""
    return next((str(value) for name, value in error.trailing_metadata() or () if name == PUSHBACK), None)


def server_error(error: grpc.RpcError, endpoint: str, timeout_s: float, attempts: int) -> ServerError:
    """The exception for the last attempt. The server's own message for a bad request names field and remedy already."""
    code: grpc.StatusCode = error.code()
    server = f"the inference server at {endpoint}"
    details = error.details() or code.name
    summary = f"{details}; {attempts} attempts" if attempts > 1 else details
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.FAILED_PRECONDITION:
            message = details
        case grpc.StatusCode.UNAVAILABLE:
            proxy = next((name for name in PROXIES if os.environ.get(name)), None)
            message = (
                f"no inference server answers at {endpoint} ({summary}): start one with `genrecall serve`, or check "
                "the endpoint and the certificates"
                + (f"; calls may have gone through the proxy of {proxy}: name the host in no_proxy" if proxy else "")
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            message = f"{server} did not answer within {timeout_s:g} s: raise timeout_s, or ask for less in one call"
        case grpc.StatusCode.RESOURCE_EXHAUSTED if pushback_ms(error) is not None:
            message = f"{server} is full ({summary}): call less often, or add servers"
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            message = (
                f"a message to or from {server} is too large ({summary}): ask for less in one call, or raise "
                "server.max_request_bytes (a request) or max_reply_bytes (a reply)"
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            message = f"{server} does not offer this call ({details}): use a server of this client's version"
        case _:
            message = f"{server} failed ({code.name}: {details}): its log says why"
    return ServerError(message, code)


def within_whole_call(error: ServerError, first: int) -> ServerError:
    """The same for part of a call that was cut: the server's `queries[34]` is the caller's `queries[34 + first]`."""
    message = re.sub(r"\b(queries|items)\[(\d+)\]", lambda m: f"{m[1]}[{int(m[2]) + first}]", str(error))
    return ServerError(message, error.code)
