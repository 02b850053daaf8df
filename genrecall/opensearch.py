"""Clients of an OpenSearch cluster: the one place that connects, repeats requests and explains errors.

Needs opensearch-py, which the core does without: import this where a cluster is used.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
from opensearchpy import OpenSearch, Transport, Urllib3AWSV4SignerAuth, Urllib3HttpConnection
from opensearchpy.connection_pool import RandomSelector
from opensearchpy.exceptions import (
    AuthenticationException,
    AuthorizationException,
    ConnectionError,
    ConnectionTimeout,
    SSLError,
    TransportError,
)
from urllib3.exceptions import ConnectTimeoutError, InsecureRequestWarning, NewConnectionError

from genrecall.config.opensearch import ClusterSection, RetrySection
from genrecall.credentials import VARIABLES, authorization
from genrecall.errors import UserError

BLOCKED = ("cluster_block_exception", "index_create_block_exception")
DISK_FULL = ("read-only-allow-delete block", "create-index blocked")  # parts of the reasons
TRANSIENT = {429, 502, 503, 504}  # statuses that a later attempt may not meet
GONE = {  # root causes that another copy of the shard does not have: its node has just left, or it has just moved
    "node_closed_exception",
    "node_disconnected_exception",
    "node_not_connected_exception",
    "no_shard_available_action_exception",
    "shard_not_found_exception",
    "illegal_index_shard_state_exception",
    "index_shard_closed_exception",
    "search_context_missing_exception",
}
CONNECT_TIMEOUT_S = 5.0  # at most; a host that is gone must not take the time that a slow answer may take
SNIFF_INTERVAL_S = 300.0


def connect(cluster: ClusterSection, retry: RetrySection | None = None, connections: int = 10) -> OpenSearch:
    """A client of the cluster, which spreads its requests over the hosts. Sends no request.

    Args:
        retry: repeat every request while no node answers or the cluster refuses it for the moment, except `_bulk`,
            whose caller decides what to send again. For callers whose requests may all be executed twice.
        connections: kept open to each host, for as many threads.

    Raises:
        UserError: credentials or certificates that cannot be read or used; `aws_region` without the extra `aws`.
    """
    return OpenSearch(
        cluster.hosts,
        transport_class=_Transport,
        retry=retry,
        http_auth=_credentials(cluster),
        use_ssl=(encrypted := cluster.url.startswith("https:")),  # for sniffed hosts too, which come without a scheme
        ssl_context=_tls(cluster) if encrypted else None,
        timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, cluster.timeout_s), read=cluster.timeout_s),
        pool_maxsize=connections,
        selector_class=RandomSelector,  # in turns, each `_bulk` between two reports would go to the same host
        max_retries=0,
        retry_on_status=(),
        sniffer_timeout=SNIFF_INTERVAL_S if cluster.sniff else None,
        sniff_on_connection_fail=cluster.sniff,
        sniff_timeout=CONNECT_TIMEOUT_S,
    )


def _credentials(cluster: ClusterSection) -> Any:
    """What opensearch-py calls with method, URL and body of each request for further headers; None for none."""
    if cluster.aws_region:
        try:
            from botocore.session import get_session
        except ModuleNotFoundError:
            raise UserError(
                f"aws_region = {cluster.aws_region} needs the extra 'aws' (botocore is not installed): "
                "pip install 'genrecall[aws]'"
            ) from None
        if (found := get_session().get_credentials()) is None:
            raise UserError(
                f"aws_region = {cluster.aws_region}, but there are no AWS credentials: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run under a role"
            )
        return Urllib3AWSV4SignerAuth(found, cluster.aws_region)
    file = cluster.credentials_file
    if authorization(file) is None:
        return None
    # Read for each request, some microseconds: tokens expire and are replaced while a job runs.
    return lambda *_: {"authorization": authorization(file)}


def _tls(cluster: ClusterSection) -> ssl.SSLContext:
    trusted = cluster.ca_certs or Urllib3HttpConnection.default_ca_certs()
    try:
        folder = trusted if trusted and Path(trusted).is_dir() else None
        context = ssl.create_default_context(cafile=None if folder else trusted, capath=folder)
    except OSError as error:  # SSLError is one
        raise UserError(f"ca_certs {trusted} cannot be read: {error}: give a PEM file of certificates") from None
    if not cluster.verify_certs:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        urllib3.disable_warnings(InsecureRequestWarning)
    if cluster.client_cert:
        try:  # OpenSSL must not prompt for the password of a key on a terminal
            context.load_cert_chain(cluster.client_cert, cluster.client_key, password=lambda: b"")
        except OSError as error:
            raise UserError(
                f"client_cert {cluster.client_cert} or client_key {cluster.client_key} cannot be read: {error}: give "
                "PEM files that belong together, the key not encrypted"
            ) from None
    return context


class _Transport(Transport):
    """opensearch-py repeats without a pause, and a node that restarts needs a minute; it also repeats requests that a
    node may have executed. Here another host is asked at once only where none was reached.
    """

    def __init__(self, *arguments: Any, retry: RetrySection | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._retry = retry
        self.last_sniff = 0.0  # where sniffing is on, the first request does it: a constructor has no retries

    def perform_request(self, method: str, url: str, params: Any = None, *arguments: Any, **options: Any) -> Any:
        attempts = self._retry.attempts if self._retry and not url.endswith("/_bulk") else 1
        for attempt in range(1, attempts):
            try:
                return self._ask_a_host(method, url, params, *arguments, **options)
            except TransportError as error:
                if not is_transient(error):
                    raise
                assert self._retry is not None
                time.sleep(backoff(self._retry, attempt))
        return self._ask_a_host(method, url, params, *arguments, **options)

    def _ask_a_host(self, method: str, url: str, params: Any, *arguments: Any, **options: Any) -> Any:
        for _ in self.connection_pool.connection_opts[1:]:
            try:
                return super().perform_request(method, url, dict(params or {}), *arguments, **options)
            except ConnectionError as error:
                if not isinstance(error.info, NewConnectionError | ConnectTimeoutError):
                    raise
        # The library removes some of the parameters.
        return super().perform_request(method, url, dict(params or {}), *arguments, **options)


def is_transient(error: TransportError) -> bool:
    """Whether a later attempt may succeed."""
    answered = isinstance(error.status_code, int)
    return (
        error.status_code in TRANSIENT
        or not (answered or isinstance(error, SSLError))
        or not GONE.isdisjoint(_causes(error))
    )


def _causes(error: TransportError) -> set[str]:
    """Types of the root causes that the response names."""
    response = error.info.get("error") if isinstance(error.info, dict) else None
    return {cause["type"] for cause in response.get("root_cause", ())} if isinstance(response, dict) else set()


def backoff(retry: RetrySection, attempt: int) -> float:
    """Seconds to wait after attempt `attempt`, 1 being the first: doubling, with jitter, since several jobs would
    otherwise return at once.
    """
    return min(retry.max_backoff_s, retry.backoff_s * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)


@contextmanager
def explain_errors(cluster: ClusterSection, setting: str = "opensearch") -> Iterator[None]:
    """Turns an error of the client into a UserError with the cluster, the reason and the remedy.

    Args:
        setting: where `cluster` stands in the configuration.
    """
    try:
        yield
    except TransportError as error:
        raise UserError(_explanation(cluster, setting, error)) from None


def _explanation(cluster: ClusterSection, setting: str, error: TransportError) -> str:
    """One sentence; without the body of a refusal for credentials, which may repeat them."""
    url, status = cluster.url, error.status_code
    if isinstance(error, SSLError):
        return f"{url}: {_tls_remedy(str(error.info), setting)} ({error.info})"
    if isinstance(error, ConnectionTimeout):
        return (
            f"{url} did not answer within {setting}.timeout_s = {cluster.timeout_s:g} s: raise it, or check the "
            "cluster's load"
        )
    if isinstance(error, ConnectionError):
        return (
            f"no OpenSearch answers at {url} ({error.error}): start one with `genrecall node start`, or set "
            f"{setting}.url"
        )
    if not isinstance(status, int):
        return f"no host of {url} says which nodes the cluster has: {setting}.sniff=false does without, or shows why"
    if isinstance(error, AuthenticationException | AuthorizationException) and error.error not in BLOCKED:
        return f"{url} refused the credentials ({status}): {_credentials_remedy(cluster, setting)}"
    did = "refused a change" if error.error in BLOCKED else f"answered {status}"  # a block may be a 403 too
    return f"{url} {did}: {reason_of(error.info) or error.error}{remedy(error.info)}"


def _tls_remedy(reason: str, setting: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return f"the certificate is not trusted: set {setting}.ca_certs to the PEM file of its authority"
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason:
        return f"no TLS is spoken there: set {setting}.url to http://..."
    return (
        f"the server broke off the TLS handshake: where it wants this client's certificate, set {setting}.client_cert "
        "and client_key to one that it trusts"
    )


def _credentials_remedy(cluster: ClusterSection, setting: str) -> str:
    if cluster.aws_region:
        return (
            f"the AWS credentials in use need rights in the domain's access policy, and {setting}.aws_region = "
            f"{cluster.aws_region} must be the domain's"
        )
    variables = f"{VARIABLES['user']} and {VARIABLES['password']} (or {VARIABLES['token']}, or {VARIABLES['api_key']})"
    if cluster.credentials_file:
        return f"those of {cluster.credentials_file} need rights on this index"
    if authorization(None):
        return f"those of the environment need rights on this index: check {variables}"
    return f"none are given: set {variables} in the environment, or {setting}.credentials_file"


def remedy(info: Any) -> str:
    """A sentence to append to the reason of a refusal; empty where there is no known remedy."""
    if any(part in str(info) for part in DISK_FULL):
        return (
            ". A disk of the cluster is full: make room on it or add a node, and run the same command again. "
            "OpenSearch removes its block by itself once there is room"
        )
    return ""


def reason_of(info: Any) -> str:
    """The innermost reason in an error response of OpenSearch."""
    error = info.get("error", info) if isinstance(info, dict) else info
    reason = str(error or "")
    while isinstance(error, dict):
        reason = str(error.get("reason") or reason)
        error = error.get("caused_by")
    return reason
