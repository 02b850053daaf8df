"""A client of the cluster that the configuration names, and its failures in words that say what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import (
    AuthenticationException,
    AuthorizationException,
    ConnectionError,
    ConnectionTimeout,
    SSLError,
    TransportError,
)

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError

USER, PASSWORD = "GENRECALL_OPENSEARCH_USER", "GENRECALL_OPENSEARCH_PASSWORD"


def connect(section: OpenSearchSection) -> OpenSearch:
    """A client without retries of its own: `bulk` decides what to send again. Credentials come from the environment."""
    user = os.environ.get(USER)
    return OpenSearch(
        section.url,
        http_auth=(user, os.environ.get(PASSWORD, "")) if user else None,
        verify_certs=section.verify_certs,
        ssl_show_warn=False,
        ca_certs=str(section.ca_certs) if section.ca_certs else None,
        timeout=section.timeout_s,
        max_retries=0,
        retry_on_status=(),
    )


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
        raise UserError(
            f"{section.url} refused the credentials ({error.status_code}): set {USER} and {PASSWORD} in the "
            "environment, for a user that may manage this index"
        ) from None
    except TransportError as error:
        raise UserError(f"{section.url} answered {error.status_code}: {reason_of(error.info) or error.error}") from None


def reason_of(info: Any) -> str:
    """The innermost reason that an error answer of OpenSearch gives."""
    error = info.get("error", info) if isinstance(info, dict) else info
    reason = str(error or "")
    while isinstance(error, dict):
        reason = str(error.get("reason") or reason)
        error = error.get("caused_by")
    return reason
