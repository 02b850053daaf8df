"""What both clients share: options, TLS, the channel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import grpc

from genrecall.addresses import is_loopback
from genrecall.client.messages import LimitsCache, check_timeout
from genrecall.client.retry import Deadline, Retry, RetryBudget, RetryState
from genrecall.errors import UserError
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub

MAX_REPLY_BYTES = 64 << 20  # replies within the default limits of a server stay well below
MAX_KEEPALIVE_TIMEOUT_S = 5.0
GRPC_NAMES = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds")


class Connection:
    """A channel to the inference servers behind one endpoint.

    Args:
        endpoint: `host:port`; calls are spread over all addresses of the name.
        timeout_s: of a whole call: its attempts, the waits between them and the parts of a large call.
        trusted_certificates: PEM file of the certificates to trust; turns TLS on.
        client_certificate, client_key: PEM files that authenticate the client (mutual TLS); they imply TLS, with
            gRPC's default certificates where `trusted_certificates` is not set.
        retry: the retry policy.
        keepalive_s: interval of pings on a connection with a call in flight. Where a ping, or bytes sent, stay
            unacknowledged as long, 5 s at most, the connection is closed and the call retried on a new one. The default
            is the shortest that gRPC servers permit by default; a shorter one needs a server that allows it
            (`grpc.http2.min_ping_interval_without_data_ms`).
        max_reply_bytes: a larger reply is an error.

    Raises:
        UserError: for an endpoint of another form, a PEM file that cannot be read, or half of a pair.
    """

    _library: ClassVar[Any]  # grpc or grpc.aio: both make channels by the same names

    def __init__(
        self,
        endpoint: str,
        timeout_s: float = 10.0,
        trusted_certificates: Path | None = None,
        *,
        client_certificate: Path | None = None,
        client_key: Path | None = None,
        retry: Retry = Retry(),
        keepalive_s: float = 300.0,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        check_endpoint(endpoint)
        check_timeout(timeout_s)
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self._retry = retry
        self._budget = RetryBudget(retry.budget)
        self._limits = LimitsCache()
        self._closed = False
        credentials = _credentials(trusted_certificates, client_certificate, client_key)
        options = _options(endpoint, keepalive_s, max_reply_bytes)
        self._channel = (
            self._library.secure_channel(endpoint, credentials, options)
            if credentials
            else self._library.insecure_channel(endpoint, options)
        )
        self._stub = GenerativeRecallStub(self._channel)

    def _deadline(self, timeout_s: float | None) -> Deadline:
        if self._closed:
            raise ValueError(f"the client of {self.endpoint} is closed: make a new one")
        if timeout_s is not None:
            check_timeout(timeout_s)
        return Deadline.after(self.timeout_s if timeout_s is None else timeout_s)

    def _retry_state(self, deadline: Deadline) -> RetryState:
        return RetryState(self._retry, self._budget, deadline, self.endpoint)


def check_endpoint(endpoint: str) -> None:
    """UserError for what is not `host:port`, nor one of gRPC's own names such as `dns:///host:port`."""
    if not isinstance(endpoint, str) or any(map(str.isspace, endpoint)):
        raise _no_endpoint(endpoint)
    scheme, separator, _ = endpoint.partition(":")
    if separator and scheme in GRPC_NAMES:
        return
    host, _, port = endpoint.rpartition(":")
    if "/" in endpoint or not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise _no_endpoint(endpoint)
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise UserError(f"an IPv6 address stands in brackets: [{host}]:{port}, found {endpoint!r}")


def _no_endpoint(endpoint: object) -> UserError:
    return UserError(
        f"the endpoint of an inference server is HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051, found {endpoint!r}"
    )


def _options(endpoint: str, keepalive_s: float, max_reply_bytes: int) -> list[tuple[str, Any]]:
    timeout_ms = int(min(keepalive_s, MAX_KEEPALIVE_TIMEOUT_S) * 1e3)
    return [
        ("grpc.max_receive_message_length", max_reply_bytes),
        ("grpc.keepalive_time_ms", int(keepalive_s * 1e3)),
        ("grpc.keepalive_timeout_ms", timeout_ms),  # in effect for sent bytes only, as TCP_USER_TIMEOUT
        ("grpc.http2.ping_timeout_ms", timeout_ms),  # this one is for pings; the default is a minute
        # A server that comes back is found within a second; gRPC's own default is up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # gRPC takes http_proxy of the environment for every address; no proxy leads to this machine's own.
        ("grpc.enable_http_proxy", int(not is_loopback(endpoint.rpartition(":")[0]))),
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ]


def _credentials(trusted: Path | None, certificate: Path | None, key: Path | None) -> grpc.ChannelCredentials | None:
    if not (trusted or certificate or key):
        return None
    if (certificate is None) != (key is None):
        raise UserError("client_certificate and client_key belong together: give both or neither")
    try:
        return grpc.ssl_channel_credentials(
            *(path.read_bytes() if path else None for path in (trusted, key, certificate))
        )
    except OSError as error:
        raise UserError(f"a PEM file of the client cannot be read: {error}") from None
