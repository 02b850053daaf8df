"""A client of the cluster that the configuration names, and its failures in words that say what to do."""

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

from genrecall.config.opensearch import BulkSection, OpenSearchSection
from genrecall.errors import UserError

USER, PASSWORD = "GENRECALL_OPENSEARCH_USER", "GENRECALL_OPENSEARCH_PASSWORD"


BLOCKED = ("cluster_block_exception", "index_create_block_exception")
FULL, CREATION = "read-only-allow-delete block", "create-index blocked"
PASSING = {429, 502, 503, 504}  # statuses that a later attempt may not meet again


def connect(section: OpenSearchSection, patient: bool = False) -> OpenSearch:
    """A client of the cluster. Credentials come from the environment.

    Args:
        patient: for long jobs: every request but `_bulk`, of which `bulk` decides what to send again, is repeated as
            `section.bulk` says while no node answers or the cluster turns it away for now. All that jobs ask may be
            asked twice.
    """
    user = os.environ.get(USER)
    return OpenSearch(
        section.url,
        transport_class=_Patient if patient else Transport,
        http_auth=(user, os.environ.get(PASSWORD, "")) if user else None,
        verify_certs=section.verify_certs,
        ssl_show_warn=False,
        ca_certs=str(section.ca_certs) if section.ca_certs else None,
        timeout=section.timeout_s,
        pool_maxsize=section.refresh.slices + 2,  # bulk requests of a job, and its beat
        max_retries=0,
        retry_on_status=(),
        **({"patience": section.bulk} if patient else {}),
    )


class _Patient(Transport):
    """opensearch-py repeats at once; a node that restarts needs a minute."""

    def __init__(self, *arguments: Any, patience: BulkSection, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._patience = patience

    def perform_request(self, method: str, url: str, params: Any = None, *arguments: Any, **options: Any) -> Any:
        for attempt in range(1, self._patience.attempts):
            own = dict(params or {})  # the library takes some of them out
            try:
                return super().perform_request(method, url, own, *arguments, **options)
            except TransportError as error:
                if url.endswith("/_bulk") or not passes(error):
                    raise
                time.sleep(backoff(self._patience, attempt))
        return super().perform_request(method, url, params, *arguments, **options)


def passes(error: TransportError) -> bool:
    """Whether a later attempt may succeed."""
    return error.status_code in PASSING or (isinstance(error, ConnectionError) and not isinstance(error, SSLError))


def backoff(section: BulkSection, attempt: int) -> float:
    """Seconds to wait before the attempt after `attempt`, 1 being the first: doubling, and slightly random, since
    several jobs would otherwise return at once.
    """
    return min(section.max_backoff_s, section.backoff_s * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)


@contextmanager
def explained(section: OpenSearchSection) -> Iterator[None]:
    """Turns an error of the client into a UserError that names the cluster, the reason and the remedy."""
    try:
        yield
    except SSLError as error:
        raise UserError(
            f"{section.url}: the certificate is not trusted ({error.info}): set opensearch.ca_certs to the file of its "
            "authority"
        ) from None
    except ConnectionTimeout:
        raise UserError(
            f"{section.url} did not answer within opensearch.timeout_s = {section.timeout_s:g} s: raise it, or look at "
            "the cluster's load"
        ) from None
    except ConnectionError as error:
        raise UserError(
            f"no OpenSearch answers at {section.url} ({error.error}): start one with `genrecall node start`, or set "
            "opensearch.url"
        ) from None
    except (AuthenticationException, AuthorizationException) as error:
        if error.error in BLOCKED:  # no matter of credentials
            raise UserError(f"{section.url} refused a change: {reason_of(error.info)}{remedy(error.info)}") from None
        raise UserError(
            f"{section.url} refused the credentials ({error.status_code}): set {USER} and {PASSWORD} in the "
            "environment, for a user that may manage this index"
        ) from None
    except TransportError as error:
        raise UserError(
            f"{section.url} answered {error.status_code}: {reason_of(error.info) or error.error}{remedy(error.info)}"
        ) from None


def remedy(info: Any) -> str:
    """A sentence to go behind the reason of a refusal, where it is one that people can do something about."""
    reason = str(info)
    if FULL in reason or CREATION in reason:
        return (
            ". A disk of the cluster is full: make room on it or add a node, and run the same command again. "
            "OpenSearch takes its block away by itself once there is room"
        )
    return ""


def reason_of(info: Any) -> str:
    """The innermost reason that an error answer of OpenSearch gives."""
    error = info.get("error", info) if isinstance(info, dict) else info
    reason = str(error or "")
    while isinstance(error, dict):
        reason = str(error.get("reason") or reason)
        error = error.get("caused_by")
    return reason
