"""What travels through a migration: where it goes, and what it works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from index_mappings.progress import Progress
from index_mappings.search import Hits
from index_mappings.sids import Sids

Search = Callable[[str, Sequence[str]], list[Hits]]
"""(index, queries) -> the hits of the generative clause alone, a list per query; UserError where one fails."""


@dataclass(frozen=True)
class MigrationContext:
    """What a refresh or a rollback needs beside the cluster.

    Attributes:
        sids: of the target's codebook.
        search: None where neither the plugin nor an inference server is there to answer.
        queries: sent to both indices before the switch.
        folder: of the reject file.
    """

    sids: Sids
    search: Search | None
    queries: Sequence[str]
    folder: Path
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class IndexPair:
    """A migration of the alias from `source` to `target`, which holds SIDs of `codebook`.

    Attributes:
        new: `target` was made for this migration, so that all its SIDs are the bundle's or the server's. An index that
            served before may also hold SIDs that its ingest pipeline assigned.
    """

    source: str
    target: str
    codebook: str
    new: bool
