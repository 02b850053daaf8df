"""A refresh or a rollback that dies by SIGKILL behind its n-th change of the cluster."""

import os
import signal
from pathlib import Path
from typing import Any

from genrecall.config.opensearch import OpenSearchSection
from genrecall.opensearch import connect
from index_mappings.meta import IndexMeta
from index_mappings.migration import refresh
from index_mappings.migration.context import MigrationContext
from index_mappings.sids import Sids

READING = ("_search", "_count", "_mget", "_refresh")


def run(
    section: OpenSearchSection, meta: IndexMeta, terms: dict[str, str], folder: Path, move: str, changes: int
) -> None:
    client = connect(section)
    perform, done = client.transport.perform_request, 0

    def deadly(method: str, url: str, **options: Any) -> Any:
        nonlocal done
        answer = perform(method, url, **options)
        if method in ("PUT", "POST", "DELETE") and not url.endswith(READING):
            done += 1
            if done == changes:
                os.kill(os.getpid(), signal.SIGKILL)
        return answer

    client.transport.perform_request = deadly  # type: ignore[method-assign]
    settings = section.refresh.model_copy(update={"max_without_sid": 0.1})
    section = section.model_copy(update={"refresh": settings, "lease_s": 60})
    context = MigrationContext(Sids(terms, None), None, (), folder)
    if move == "refresh":
        refresh.refresh(client, section, meta, context)
    else:
        refresh.rollback(client, section, context)
