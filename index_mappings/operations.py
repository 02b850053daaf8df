"""The jobs on an index as a program runs them: from a configuration and a bundle to a report.

Owns what a job needs opened: the cluster, the catalogue and its vectors, the inference server, the sample queries. What
the jobs do is in `create`, `load`, `migration` and `sync`. Every function raises UserError with the remedy.

    config = genrecall.config.load(Config, Path("run.yaml"))
    report = operations.refresh(config, bundle.open(Path("bundles/v2")))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from opensearchpy import OpenSearch

from genrecall import bundle as bundles
from genrecall.bundle import Bundle
from genrecall.checkpoints import resolve
from genrecall.client import Client
from genrecall.config import Config
from genrecall.config.encoder import EncoderSection
from genrecall.config.opensearch import OpenSearchSection
from genrecall.data.readers import read_dataset, read_items
from genrecall.embeddings import embed
from genrecall.encoder_layout import EncoderLayout
from genrecall.errors import UserError
from genrecall.files import sha256_of
from genrecall.item_text import item_text
from genrecall.opensearch import connect, explain_errors
from index_mappings import attach as attaching
from index_mappings import create as creation
from index_mappings import load as loading
from index_mappings import status as listing
from index_mappings import sync as syncing
from index_mappings.attach import AttachReport, OwnFields
from index_mappings.lease import JobLease
from index_mappings.load import LoadInput, LoadReport, terms_of
from index_mappings.meta import IndexMeta
from index_mappings.migration import refresh as migration
from index_mappings.migration.context import MigrationContext
from index_mappings.migration.refresh import MigrationReport, RefreshPlan
from index_mappings.progress import Progress
from index_mappings.sids import Sids, encoder_of, reassigned
from index_mappings.status import IndexStatus
from index_mappings.sync import SyncInput, SyncReport

SERVER_TIMEOUT_S = 60.0  # of one `Encode`: the first waits until the encoder is loaded


def folder_of(config: Config) -> Path:
    """Where the reject files of a run's jobs are."""
    return config.run.dir / "index"


def create(config: Config, bundle: Bundle, replace: bool = False, progress: Progress = Progress()) -> tuple[str, bool]:
    """As `create.create`: (name of the index, whether it is new)."""
    section = config.opensearch
    with explain_errors(section):
        meta = IndexMeta.of(bundle, config.encoder)
        dimension = _dimension(config.encoder)
        return creation.create(connect(section), section, meta, dimension, replace, progress.message)


def status(config: Config) -> list[IndexStatus]:
    with explain_errors(config.opensearch):
        return listing.status(connect(config.opensearch), config.opensearch)


def load(config: Config, bundle: Bundle, switch: bool = False, progress: Progress = Progress()) -> LoadReport:
    """Index the catalogue of `config.data`. switch: point the alias to the index also where it points to another."""
    section, items = config.opensearch, _items(config)
    bundles.require_fit(bundle, items["item_id"], section.max_unknown)
    source = LoadInput(
        meta=IndexMeta.of(bundle, config.encoder),
        items=items,
        terms=terms_of(bundle.items(), bundle.codebook),
        vectors=embed(item_text(items), "item", config.encoder, config.run.cache_dir, device=config.run.device),
        fingerprints={"items": sha256_of(bytes(batch.serialize()) for batch in items.to_batches(65_536))},
    )
    with explain_errors(section):
        connect(section).info()  # where no cluster answers, say so at once rather than after all attempts
        return loading.load(_job_client(section), section, source, folder_of(config), switch, progress)


def refresh(
    config: Config, bundle: Bundle, queries: Path | None = None, progress: Progress = Progress()
) -> MigrationReport | None:
    """Build the index of `bundle` from the one that serves and move the alias there; None if it serves already.

    queries: a file with a query a line, to compare both indices with; None: those of the dataset.
    """
    section = config.opensearch
    with explain_errors(section):
        client = _job_client(section)
        with _context(config, bundle, queries, client, progress) as context:
            return migration.refresh(client, section, IndexMeta.of(bundle, config.encoder), context)


def plan_refresh(config: Config, bundle: Bundle) -> RefreshPlan:
    section = config.opensearch
    with explain_errors(section):
        terms = terms_of(bundle.items(), bundle.codebook)
        return migration.plan(_job_client(section), section, IndexMeta.of(bundle, config.encoder), terms)


def abandon(config: Config, progress: Progress = Progress()) -> str:
    """Give up an unfinished refresh or rollback; a sentence about what was done."""
    with explain_errors(config.opensearch):
        return migration.abandon(_job_client(config.opensearch), config.opensearch, progress.message)


def rollback(config: Config, queries: Path | None = None, progress: Progress = Progress()) -> MigrationReport:
    """Move the alias back to the previous index. Its bundle must still be in `run.bundles_dir`."""
    section = config.opensearch
    with explain_errors(section):
        client = _job_client(section)
        state, _ = JobLease.peek(client, section.index)
        back = migration.previous(client, section, state)
        previous = bundles.open(bundles.resolve(config.run.bundles_dir, back.codebook))
        if IndexMeta.of(previous).assignments != back.assignments:
            raise UserError(
                f"the previous index was made for another bundle of the name {back.codebook!r} than the one in "
                f"{config.run.bundles_dir}: set run.bundles_dir to where that one is"
            )
        with _context(config, previous, queries, client, progress) as context:
            return migration.rollback(client, section, context)


def sync(
    config: Config, bundle: Bundle, assignments: Path | None = None, progress: Progress = Progress()
) -> SyncReport:
    """Update the serving index from the catalogue.

    assignments: Parquet of item_id and codes, SIDs that replace the bundle's.
    """
    section, items = config.opensearch, _items(config)
    bundles.require_fit(bundle, items["item_id"], section.max_unknown)
    texts, run = item_text(items), config.run
    with explain_errors(section), _sids(config, bundle, assignments) as (sids, _):
        source = SyncInput(
            meta=IndexMeta.of(bundle, config.encoder),
            items=items,
            embed=lambda rows: embed(
                [texts[row] for row in rows], "item", config.encoder, run.cache_dir, False, run.device
            ),
            sids=sids,
        )
        return syncing.sync(_job_client(section), section, source, sync_rejects(config), progress)


def sync_rejects(config: Config) -> Path:
    return folder_of(config) / f"{config.opensearch.index}.sync.rejects.jsonl"


def attach(
    config: Config, bundle: Bundle, name: str, fields: OwnFields, progress: Progress = Progress()
) -> AttachReport:
    """Give SIDs to the documents of `name`, an index of one's own or an alias of one."""
    section = config.opensearch
    with explain_errors(section), _sids(config, bundle) as (sids, _):
        meta = IndexMeta.of(bundle)
        client = _job_client(section)
        return attaching.attach(client, section, name, meta, sids, fields, attach_rejects(config, name), progress)


def attach_rejects(config: Config, name: str) -> Path:
    return folder_of(config) / f"{name}.attach.rejects.jsonl"


def repeat(run: Callable[[], SyncReport], every_s: float) -> Iterator[SyncReport | UserError]:
    """Runs `run` every `every_s` seconds, without end. A UserError is yielded: the next run may succeed."""
    while True:
        began = time.monotonic()
        try:
            yield run()
        except UserError as error:
            yield error
        time.sleep(max(0.0, every_s - (time.monotonic() - began)))


def sample_queries(config: Config, file: Path | None) -> list[str]:
    """`opensearch.refresh.sample_queries` queries, spread evenly over a file or the dataset's, or titles."""
    wanted = config.opensearch.refresh.sample_queries
    if not wanted:
        return []
    if file is None:
        dataset = read_dataset(config.data)
        texts = dataset.queries["text"].to_pylist() or dataset.items["title"].to_pylist()
    else:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--queries {file} cannot be read: {error}") from None
        texts = [line.strip() for line in lines if line.strip()]
    step = max(1, len(texts) // wanted)
    return texts[::step][:wanted]


def _items(config: Config) -> pa.Table:
    return read_items(config.data, folder_of(config) / "items.rejects.jsonl")


def _job_client(section: OpenSearchSection) -> OpenSearch:
    """Waits for a node that restarts; a connection for each bulk request and for the lease."""
    return connect(section, retry=section.bulk, connections=section.refresh.slices + 2)


@contextmanager
def _context(
    config: Config, bundle: Bundle, queries: Path | None, client: OpenSearch, progress: Progress
) -> Iterator[MigrationContext]:
    with _sids(config, bundle) as (sids, server):
        search = migration.generative_search(client, server)
        yield MigrationContext(sids, search, sample_queries(config, queries), folder_of(config), progress)


@contextmanager
def _sids(config: Config, bundle: Bundle, assignments: Path | None = None) -> Iterator[tuple[Sids, Client | None]]:
    """The SIDs of `bundle`, and the inference server for items that it lacks, if one is configured."""
    terms = terms_of(bundle.items(), bundle.codebook)
    if assignments is not None:
        terms |= reassigned(assignments, bundle)
    endpoint, tls = config.opensearch.refresh.endpoint, config.opensearch.refresh.tls
    if not endpoint:
        yield Sids(terms, None), None
        return
    cert, key = tls.client_cert, tls.client_key
    with Client(endpoint, SERVER_TIMEOUT_S, tls.ca_certs, client_certificate=cert, client_key=key) as client:
        yield Sids(terms, encoder_of(client, bundle.codebook)), client


def _dimension(encoder: EncoderSection) -> int:
    """Of the encoder's vectors, without loading it."""
    return EncoderLayout.read(resolve(encoder.checkpoint)).dim
