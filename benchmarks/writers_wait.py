"""How long writers wait while the alias moves, by the size of the index, with and without deletions during the copy.

    genrecall node start 'opensearch.node.jvm_options=[]'
    python -m benchmarks.writers_wait 10000 100000 [--set opensearch.url=...]

Fills an index of its own (alias genrecall-wait) with so many small documents (a title, a vector of 8 numbers), then
refreshes it twice, while one writer changes a document every 20 ms through the alias: first without deletions, then
with a share of the documents (--deleted) deleted when half of them are copied. Writes that are refused (403) are
repeated every 5 ms.
  blocked   from the moment when the block is requested to the move of the alias, as the job reports it
  waited    the longest that a write was refused, as the writer saw it

Prints a table and writes benchmarks/results/writers_wait.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthorizationException
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_info
from genrecall.config import Config, load
from genrecall.config.opensearch import OpenSearchSection
from genrecall.opensearch import connect, explain_errors
from genrecall.records import ITEMS
from index_mappings.load import LoadInput
from index_mappings.load import load as load_index
from index_mappings.meta import IndexMeta
from index_mappings.migration import refresh
from index_mappings.migration.context import MigrationContext
from index_mappings.progress import Progress
from index_mappings.sids import Sids

ALIAS = "genrecall-wait"
OUT = Path(__file__).parent / "results/writers_wait.json"
DIMENSION = 8
PAUSE_S = 0.02  # between two writes
DELETED_AT_ONCE = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="+", type=int)
    parser.add_argument("--deleted", type=float, default=0.01, help="share of the documents")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of refreshes of each size")
    parser.add_argument("--set", action="append", default=[], help="such as opensearch.url=http://127.0.0.1:9201")
    parser.add_argument("--config", "-c", type=Path, default=Path("configs/demo.yaml"))
    args = parser.parse_args()
    settings, rows = load(Config, args.config, args.set), []
    quick = {"drain_timeout_s": 0.0, "sample_queries": 0, "endpoint": None, "max_without_sid": 1.0}
    section = settings.opensearch.model_copy(
        update={"index": ALIAS, "refresh": settings.opensearch.refresh.model_copy(update=quick)}
    )
    client = connect(section, retry=section.bulk)
    with tempfile.TemporaryDirectory() as folder, explain_errors(section):
        about = {"opensearch": client.info()["version"]["number"], "dimension": DIMENSION, "machine": machine_info()}
        for documents in args.documents:
            clean(client)
            rows += list(measure(client, section, documents, args.deleted, args.repeats, Path(folder)))
            OUT.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n", encoding="utf-8")
        clean(client)
    shown = Table("documents", "deleted meanwhile", "blocked, s", "a write waited, s", "whole refresh, s")
    for row in rows:
        blocked, waited = (", ".join(f"{value:.2f}" for value in row[name]) for name in ("blocked", "waited"))
        shown.add_row(f"{row['documents']:,}", f"{row['deleted']:,}", blocked, waited, f"{row['seconds']:.0f}")
    Console().print(shown, f"{about['machine']}\nwritten to {OUT}")


def clean(client: OpenSearch) -> None:
    minutes = {"ignore_unavailable": "true", "timeout": "5m", "cluster_manager_timeout": "5m", "request_timeout": 600}
    client.indices.delete(index=f"{ALIAS}-*", params=minutes)
    client.delete(index=".genrecall-jobs", id=ALIAS, ignore=404)


def measure(
    client: OpenSearch, section: OpenSearchSection, documents: int, share: float, repeats: int, folder: Path
) -> Iterator[dict[str, Any]]:
    """One row without deletions, one with them, each of `repeats` refreshes in turns."""
    ids = [f"item-{number}" for number in range(documents)]
    paths = [f"{number % 256}/{number % 255}/{number % 253}" for number in range(documents)]
    terms = {id: f"v0/{path}" for id, path in zip(ids, paths, strict=True)}
    fill(client, section, ids, terms, folder)
    rng = np.random.default_rng(0)
    order, count = rng.permutation(documents), int(share * documents)
    rows: list[dict[str, Any]] = [
        {"documents": documents, "deleted": deleted, "blocked": [], "waited": [], "seconds": 0.0}
        for deleted in (0, count)
    ]
    for turn, (repeat, row) in enumerate(itertools.product(range(repeats), rows), start=1):
        terms = {id: f"v{turn}/{path}" for id, path in zip(ids, paths, strict=True)}
        gone = [ids[number] for number in order[repeat * count :][: row["deleted"]]]
        report, waited = refreshed(client, section, f"v{turn}", terms, gone, folder)
        row["blocked"].append(round(report.timing["blocked"], 3))
        row["waited"].append(round(waited, 3))
        row["seconds"] = round(report.seconds, 1)
    yield from rows


def fill(client: OpenSearch, section: OpenSearchSection, ids: list[str], terms: dict[str, str], folder: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(ids), DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = {
        "item_id": ids,
        "title": [f"item number {number}" for number in range(len(ids))],
        "category": [["Home"]] * len(ids),
        "brand": ["some brand"] * len(ids),
        "text": [""] * len(ids),
    }
    items = pa.table({name: pa.array(rows[name], ITEMS.field(name).type) for name in ITEMS.names}, ITEMS)
    load_index(client, section, LoadInput(META, items, terms, vectors, {}), folder)


META = IndexMeta(codebook="v0", assignments="0" * 64, encoder="benchmark")


def refreshed(
    client: OpenSearch, section: OpenSearchSection, codebook: str, terms: dict[str, str], gone: list[str], folder: Path
) -> tuple[refresh.MigrationReport, float]:
    """The report of one refresh, and the longest that a write was refused meanwhile, in seconds."""
    pending = list(gone)

    def advance(copied: int, documents: int) -> None:
        if copied > documents / 2:
            while pending:
                some = [pending.pop() for _ in range(min(DELETED_AT_ONCE, len(pending)))]
                client.bulk(index=section.index, body=[{"delete": {"_id": id}} for id in some])

    context = MigrationContext(Sids(terms, None), None, (), folder, Progress(advance=advance))
    meta = dataclasses.replace(META, codebook=codebook, assignments=f"{int(codebook[1:]):064x}")
    with writing(section) as waits:
        report = refresh.refresh(client, section, meta, context)
    assert report is not None
    assert not pending
    return report, max(waits, default=0.0)


@contextmanager
def writing(section: OpenSearchSection) -> Iterator[list[float]]:
    """A writer in the background; yields the seconds for which its writes were refused, each time."""
    client, ended, waits = connect(section), threading.Event(), list[float]()

    def write() -> None:
        for number in itertools.count():
            if ended.wait(PAUSE_S):
                return
            began = time.monotonic()
            while True:
                try:
                    client.index(index=section.index, id=f"new-{number % 100}", body={"title": f"written {number}"})
                except AuthorizationException:  # 403: writes are blocked
                    time.sleep(0.005)
                else:
                    break
            waits.append(time.monotonic() - began)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield waits
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
