"""How fast an index changes to other SIDs: rebuilds by several methods, and in-place updates of the items that moved.

    genrecall data fetch esci && genrecall train && genrecall node start 'opensearch.node.jvm_options=[]'
    python -m benchmarks.refresh [-c demo] [--repeats 3] [opensearch.url=...]
    python -m benchmarks.refresh --copies 15 --repeats 1 --method reindex --method "sync, 1% moved"

Fills an index of its own (alias genrecall-bench) with the catalogue of a trained bundle, and measures on the node that
opensearch.url names, each method `--repeats` times, in turns:
  refresh, slices=N         `genrecall index refresh`: read, give SIDs, bulk, verify, switch (without its waits)
  refresh, resumed at half  the same, interrupted when half was copied: the second command alone
  reindex                   OpenSearch's `_reindex` in two slices, SIDs as they are: a floor, as it gives no new ones
  reindex, script           `_reindex` in chunks of 1,000 ids, the SIDs of a chunk in the parameters of a script
  reindex, sid processor    `_reindex` of 1,000 documents through the pipeline that asks an inference server, where the
                            node has the plugin
  sync, N% moved            `genrecall index sync` after so many SIDs moved, against the rebuild

--copies N makes the catalogue N times as large: the same items under other ids, their vectors a little moved. Prints a
table and writes benchmarks/results/refresh.json, or refresh-xN.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.machine import machine_info
from genrecall import bundle
from genrecall.config import Config, load
from genrecall.data.readers import read_items
from genrecall.embeddings import embed
from genrecall.evaluation.folds_node import plugin_endpoint
from genrecall.evaluation.server_process import inference_server
from genrecall.item_text import item_text
from genrecall.opensearch import connect, explain_errors
from index_mappings.alias import point_alias
from index_mappings.load import LoadInput, terms_of
from index_mappings.load import load as load_index
from index_mappings.meta import IndexMeta, index_name
from index_mappings.migration import refresh
from index_mappings.migration.context import MigrationContext
from index_mappings.migration.indices import block_writes, clone_index
from index_mappings.progress import Progress
from index_mappings.sids import Sids
from index_mappings.sync import SyncInput, SyncReport, sync

ALIAS = "genrecall-bench"
OUT = Path(__file__).parent / "results/refresh.json"
SLICES = (1, 2, 4)
CHUNK = 1000  # ids of one scripted _reindex
PROCESSED = 1000  # documents that go through the sid processor, the slowest method by far
MOVED = (0.01, 0.1, 0.5)
SCRIPT = "ctx._source.sid = params.sids[ctx._id]"


class Bench:
    """The catalogue, and an index of it that every method starts from."""

    def __init__(self, settings: Config, folder: Path, copies: int = 1) -> None:
        self.settings, self.folder = settings, folder
        self.bundle = bundle.open(bundle.resolve(settings.run.bundles_dir))
        quick = settings.opensearch.refresh.model_copy(
            update={"drain_timeout_s": 0.0, "sample_queries": 0, "endpoint": None}
        )
        self.section = settings.opensearch.model_copy(update={"index": ALIAS, "refresh": quick})
        self.client = connect(self.section, retry=self.section.bulk)
        self.items = read_items(settings.data)
        self.vectors = embed(item_text(self.items), "item", settings.encoder, settings.run.cache_dir)
        self.terms = terms_of(self.bundle.items(), self.bundle.codebook)
        if copies > 1:
            self._multiply(copies)
        self.meta = IndexMeta.of(self.bundle, settings.encoder)
        self.source = index_name(self.section, self.meta.codebook)

    def _multiply(self, copies: int) -> None:
        rng, ids = np.random.default_rng(13), self.items["item_id"].to_pylist()
        named = [[f"{id}-{copy}" for id in ids] for copy in range(copies)]
        column = self.items.column_names.index("item_id")
        tables = [self.items.set_column(column, self.items.field(column), pa.array(names)) for names in named]
        noise = rng.normal(scale=0.02, size=(copies, *self.vectors.shape)).astype(np.float32)
        vectors = (self.vectors + noise).reshape(-1, self.vectors.shape[1])
        self.items, self.vectors = pa.concat_tables(tables), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        terms = [self.terms[id] for id in ids]
        self.terms = {id: term for names in named for id, term in zip(names, terms, strict=True)}

    def fill(self) -> float:
        """Documents a second of `genrecall index load`."""
        self.clean()
        source = LoadInput(self.meta, self.items, self.terms, self.vectors, {})
        return load_index(self.client, self.section, source, self.folder / "load").per_second

    def clean(self) -> None:
        self.client.indices.delete(index=f"{ALIAS}-*", params={"ignore_unavailable": "true"})
        self.client.delete(index=".genrecall-jobs", id=ALIAS, ignore=404)

    def target(self, codebook: str) -> str:
        """An empty index like the source, for the `_reindex` methods."""
        name = index_name(self.section, codebook)
        self.client.indices.delete(index=name, params={"ignore_unavailable": "true"})
        clone_index(self.client, self.source, name, dataclasses.replace(self.meta, codebook=codebook))
        return name

    def reindex(self, body: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """As a task: a long one answers with more warnings in its headers than Python reads."""
        task = self.client.reindex(body=body, params={**(params or {}), "wait_for_completion": "false"})["task"]
        while not (status := self.client.tasks.get(task_id=task))["completed"]:
            time.sleep(0.02)
        done: dict[str, Any] = status["response"]
        return done

    # --- the methods measured, each returning (documents, seconds, seconds by step)

    def refreshed(self, slices: int, resumed: bool = False) -> tuple[int, float, dict[str, Any]]:
        settings = self.section.refresh.model_copy(update={"slices": slices})
        section = self.section.model_copy(update={"refresh": settings})
        terms = {id: f"next/{term.partition('/')[2]}" for id, term in self.terms.items()}
        context = MigrationContext(Sids(terms, None), None, (), self.folder)
        meta = dataclasses.replace(self.meta, codebook="next")
        if resumed:
            with suppress(KeyboardInterrupt):
                half = dataclasses.replace(context, progress=Progress(advance=interrupt_at_half))
                refresh.refresh(self.client, section, meta, half)
        report = refresh.refresh(self.client, section, meta, context)
        assert report is not None
        assert report.sent < len(self.items) or not resumed
        # back to where every method starts: the alias on the source, which takes writes
        point_alias(self.client, section.index, self.source)
        block_writes(self.client, self.source, False)
        self.client.indices.delete(index=report.target)
        self.client.delete(index=".genrecall-jobs", id=ALIAS, ignore=404)
        steps = report.timing["steps"]
        parts = {name: round(report.timing[name], 2) for name in ("read", "place", "send", "blocked")}
        return report.sent, report.seconds, {**parts, **{name: round(steps[name], 2) for name in steps}}

    def reindexed(self) -> tuple[int, float, dict[str, Any]]:
        target, began = self.target("plain"), time.monotonic()
        body = {"source": {"index": self.source, "size": 500}, "dest": {"index": target, "pipeline": "_none"}}
        done = self.reindex(body, {"slices": 2, "refresh": "true"})
        seconds = time.monotonic() - began
        self.client.indices.delete(index=target)
        return done["created"], seconds, {}

    def scripted(self) -> tuple[int, float, dict[str, Any]]:
        target, began = self.target("scripted"), time.monotonic()
        ids, created = list(self.terms), 0
        for first in range(0, len(ids), CHUNK):
            some = ids[first : first + CHUNK]
            sids = {id: f"scripted/{self.terms[id].partition('/')[2]}" for id in some}
            body = {
                "source": {"index": self.source, "query": {"ids": {"values": some}}, "size": 500},
                "dest": {"index": target, "pipeline": "_none"},
                "script": {"source": SCRIPT, "params": {"sids": sids}},
            }
            created += self.reindex(body)["created"]
        self.client.indices.refresh(index=target)
        seconds = time.monotonic() - began
        self.client.indices.delete(index=target)
        return created, seconds, {}

    def processed(self) -> tuple[int, float, dict[str, Any]]:
        """The target names the codebook that the server holds, so that the processor may ask for it."""
        name = f"{ALIAS}-processed"
        self.client.indices.delete(index=name, params={"ignore_unavailable": "true"})
        clone_index(self.client, self.source, name, self.meta)
        self.client.ingest.put_pipeline(id=ALIAS, body={"processors": [{"sid": {}}]})
        query = {"ids": {"values": list(self.terms)[:PROCESSED]}}
        body = {
            "source": {"index": self.source, "query": query, "size": 500},
            "dest": {"index": name, "pipeline": ALIAS},
        }
        began = time.monotonic()
        done = self.reindex(body, {"refresh": "true"})
        seconds = time.monotonic() - began
        self.client.indices.delete(index=name)
        self.client.ingest.delete_pipeline(id=ALIAS)
        return done["created"], seconds, {}

    def synced(self, moved: float, seed: int) -> tuple[int, float, dict[str, Any]]:
        ids, rng = list(self.terms), np.random.default_rng(seed)
        some = rng.permutation(len(ids))[: round(moved * len(ids))]
        terms = dict(self.terms)
        for row in some:  # each takes the SID of another item
            terms[ids[row]] = f"{self.meta.codebook}/{seed}/{row % 100}/{row % 10}"
        report = self._sync(terms)
        assert report.moved == len(some)
        self._sync(self.terms)
        return report.moved, report.seconds, {"compared": report.compared}

    def _sync(self, terms: dict[str, str]) -> SyncReport:
        source = SyncInput(self.meta, self.items, lambda rows: self.vectors[list(rows)], Sids(terms, None))
        return sync(self.client, self.section, source, self.folder / "sync.rejects.jsonl")


def interrupt_at_half(copied: int, documents: int) -> None:
    if copied > documents / 2:
        raise KeyboardInterrupt


def methods(bench: Bench, processor: bool) -> Iterator[tuple[str, Callable[[int], tuple[int, float, dict[str, Any]]]]]:
    for slices in SLICES:
        yield f"refresh, slices={slices}", lambda _, slices=slices: bench.refreshed(slices)  # type: ignore[misc]
    yield "refresh, resumed at half", lambda _: bench.refreshed(SLICES[1], resumed=True)
    yield "reindex", lambda _: bench.reindexed()
    yield "reindex, script", lambda _: bench.scripted()
    if processor:
        yield "reindex, sid processor", lambda _: bench.processed()
    for moved in MOVED:
        yield f"sync, {moved:.0%} moved", lambda turn, moved=moved: bench.synced(moved, turn)  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="such as opensearch.url=http://127.0.0.1:9201")
    parser.add_argument("--config", "-c", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--copies", type=int, default=1, help="times the catalogue is repeated")
    parser.add_argument("--method", action="append", help="may be repeated; default: all")
    args = parser.parse_args()
    settings, console = load(Config, args.config, args.overrides), Console()

    with tempfile.TemporaryDirectory() as name, explain_errors(settings.opensearch):
        bench = Bench(settings, Path(name), args.copies)
        plugins = {row["component"] for row in bench.client.cat.plugins(format="json", h="component")}
        rows = measure(bench, refresh.PLUGIN in plugins, args.repeats, Path(name) / "server.log", args.method)
        version = bench.client.info()["version"]["number"]
        bench.clean()
    rebuild = min(row["seconds"][1] for row in rows if row["method"].startswith("refresh"))
    for row in rows:
        if row["method"].startswith("sync"):
            row["times_as_fast_as_the_rebuild"] = round(rebuild / row["seconds"][1], 2)
    shown = Table("method", "documents", "seconds, median (least to most)", "a second", "seconds by step")
    for row in rows:
        least, median, most = row["seconds"]
        parts = ", ".join(f"{name} {value}" for name, value in row["parts"].items())
        shown.add_row(
            row["method"], f"{row['documents']:,}", f"{median} ({least} to {most})", f"{row['per_second']:,}", parts
        )
    result = {
        "documents": len(bench.items),
        "dimension": int(bench.vectors.shape[1]),
        "opensearch": version,
        "repeats": args.repeats,
        "machine": machine_info(),
        "rows": rows,
    }
    out = OUT if args.copies == 1 else OUT.with_name(f"refresh-x{args.copies}.json")
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    console.print(shown, f"{result['machine']}\nwritten to {out}")


def measure(bench: Bench, processor: bool, repeats: int, log: Path, selected: list[str] | None) -> list[dict[str, Any]]:
    filled = bench.fill()
    runs: dict[str, list[tuple[int, float, dict[str, Any]]]] = {}
    for turn in track(range(repeats + 1), "measuring"):  # the first warms the node up and is forgotten
        for method, run in methods(bench, processor):
            if selected is not None and method not in selected:
                continue
            if method == "reindex, sid processor":
                with (
                    inference_server(bench.settings, [bench.meta.codebook], log) as at,
                    plugin_endpoint(bench.client, at),
                ):
                    bench.client.search(index=bench.source, body={"size": 0})
                    done = run(turn)
            else:
                done = run(turn)
            if turn:
                runs.setdefault(method, []).append(done)
    rows: list[dict[str, Any]] = [
        {
            "method": "load",
            "documents": len(bench.items),
            "seconds": [round(len(bench.items) / filled, 2)] * 3,
            "per_second": round(filled),
            "parts": {},
        }
    ]
    for method, some in runs.items():
        times = sorted(seconds for _, seconds, _ in some)
        median = statistics.median(times)
        documents = some[0][0]
        middle = min(some, key=lambda one: abs(one[1] - median))
        rows.append(
            {
                "method": method,
                "documents": documents,
                "seconds": [round(value, 2) for value in (times[0], median, times[-1])],
                "per_second": round(documents / median),
                "parts": middle[2],
            }
        )
    return rows


if __name__ == "__main__":
    main()
