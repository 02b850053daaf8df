"""Clients of an OpenSearch cluster: the one place that connects, repeats requests and explains errors.

Needs opensearch-py, which the core does without: import this where a cluster is used.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opensearchpy import OpenSearch, Transport
from opensearchpy.exceptions import (
    AuthenticationException,
    AuthorizationException,
    ConnectionError,
    ConnectionTimeout,
    SSLError,
    TransportError,
)

from genrecall.config.opensearch import ClusterSection, RetrySection
from genrecall.errors import UserError

USER, PASSWORD = "GENRECALL_OPENSEARCH_USER", "GENRECALL_OPENSEARCH_PASSWORD"

BLOCKED = ("cluster_block_exception", "index_create_block_exception")
DISK_FULL = ("read-only-allow-delete block", "create-index blocked")  # parts of the reasons
TRANSIENT = {429, 502, 503, 504}  # statuses that a later attempt may not meet


def connect(cluster: ClusterSection, retry: RetrySection | None = None, connections: int = 10) -> OpenSearch:
    """A client of the cluster, with the credentials of the environment.

    Args:
        retry: repeat every request while no node answers or the cluster refuses it for the moment, except `_bulk`,
            whose caller decides what to send again. For callers whose requests may all be executed twice.
        connections: kept open, for as many threads.
    """
    user = os.environ.get(USER)
    return OpenSearch(
        cluster.url,
        transport_class=_RetryingTransport if retry else Transport,
        http_auth=(user, os.environ.get(PASSWORD, "")) if user else None,
        verify_certs=cluster.verify_certs,
        ssl_show_warn=False,
        ca_certs=str(cluster.ca_certs) if cluster.ca_certs else None,
        timeout=cluster.timeout_s,
        pool_maxsize=connections,
        max_retries=0,
        retry_on_status=(),
        **({"retry": retry} if retry else {}),
    )


class _RetryingTransport(Transport):
    """opensearch-py repeats without a pause; a node that restarts needs a minute."""

    def __init__(self, *arguments: Any, retry: RetrySection, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._retry = retry

    def perform_request(self, method: str, url: str, params: Any = None, *arguments: Any, **options: Any) -> Any:
        for attempt in range(1, self._retry.attempts):
            own = dict(params or {})  # the library removes some of them
            try:
                return super().perform_request(method, url, own, *arguments, **options)
            except TransportError as error:
                if url.endswith("/_bulk") or not is_transient(error):
                    raise
                time.sleep(backoff(self._retry, attempt))
        return super().perform_request(method, url, params, *arguments, **options)


def is_transient(error: TransportError) -> bool:
    """Whether a later attempt may succeed."""
    return error.status_code in TRANSIENT or (isinstance(error, ConnectionError) and not isinstance(error, SSLError))


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
    except SSLError as error:
        raise UserError(
            f"{cluster.url}: the certificate is not trusted ({error.info}): set {setting}.ca_certs to the PEM file of "
            "its authority"
        ) from None
    except ConnectionTimeout:
        raise UserError(
            f"{cluster.url} did not answer within {setting}.timeout_s = {cluster.timeout_s:g} s: raise it, or check "
            "the cluster's load"
        ) from None
    except ConnectionError as error:
        raise UserError(
            f"no OpenSearch answers at {cluster.url} ({error.error}): start one with `genrecall node start`, or set "
            f"{setting}.url"
        ) from None
    except (AuthenticationException, AuthorizationException) as error:
        if error.error in BLOCKED:  # a 403 too, but not about credentials
            raise UserError(f"{cluster.url} refused a change: {reason_of(error.info)}{remedy(error.info)}") from None
        raise UserError(
            f"{cluster.url} refused the credentials ({error.status_code}): set {USER} and {PASSWORD} in the "
            "environment, for a user with rights on this index"
        ) from None
    except TransportError as error:
        raise UserError(
            f"{cluster.url} answered {error.status_code}: {reason_of(error.info) or error.error}{remedy(error.info)}"
        ) from None


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
