"""The memory of a published bundle, renewed from newer logs without training (`genrecall.decoding.memory`).

It is an attachment, so the bundle stays what it was, and so do its codebook and every SID in an index. A server that
holds the bundle takes a new memory up as it takes up a new export.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.compute as pc

from genrecall import bundle as bundles
from genrecall.analyzer import Analyzer
from genrecall.bundle import MEMORY, Bundle
from genrecall.config import Config
from genrecall.data.events import has_logs
from genrecall.data.rejects import Rejects
from genrecall.decoding.config import CONFIG, GeneratorConfig
from genrecall.decoding.memory import FILE, Memory
from genrecall.encoder_layout import json_of
from genrecall.errors import UserError
from trainer.generator.memory import logged_wants
from trainer.logs.requests import build_requests, open_requests


@dataclass(frozen=True)
class Remembered:
    """What a memory was made of.

    Attributes:
        requests: of the logs; first, last: their times, ISO 8601.
        queries: that are remembered; left_out: those that fewer than `least` clients wanted something for.
        sids: wanted SIDs of all queries together.
        simulated: whether the logs were generated.
    """

    source: str
    requests: int
    first: str
    last: str
    least: int
    queries: int
    left_out: int
    sids: int
    simulated: bool


def remember(config: Config, bundle: Bundle, dry_run: bool = False, progress: bool = True) -> Remembered:
    """Attach to `bundle` what the logs of `config.data` wanted for each query, in place of an earlier memory.

    Raises:
        UserError: no logs, a bundle without evidence, or no query that `generator.memory.least` clients wanted items of
            the bundle for; it is left as it was.
    """
    evidence = GeneratorConfig.read(json_of(bundle.generator_dir / CONFIG), bundle.generator_dir / CONFIG).evidence
    if evidence is None:
        raise UserError(f"bundle {bundle.codebook!r} has no evidence that a memory could move: train it again")
    if not has_logs(config.data):
        raise UserError(
            f"{config.data.folder} has no logs: name a dataset with ubi_queries and ubi_events by data.folder, or "
            "import them with `genrecall data import`"
        )
    items, least, folder = bundle.items(), config.generator.memory.least, config.run.dir / "memory"
    with Rejects(folder / "rejected.jsonl") as rejects:
        path = build_requests(config.data, config.logs, items, folder, rejects, progress)
    requests = open_requests(path)
    analyzer, item_ids = Analyzer(evidence.language), items["item_id"].to_pylist()
    wants, left_out = logged_wants(requests, analyzer, item_ids, least)
    memory = wants.memory(bundle.space.index_of(bundles.codes_of(items)))
    if not len(memory):
        raise UserError(
            f"{len(requests):,} requests of {config.data.folder}, but no query that {least} clients wanted an item of "
            f"bundle {bundle.codebook!r} for ({left_out:,} that fewer did): bring more logs, or lower "
            "generator.memory.least; nothing was changed"
        )
    time = pc.min_max(requests["timestamp"]).as_py()
    about = Remembered(
        source=str(config.data.folder),
        requests=len(requests),
        first=time["min"].isoformat(),
        last=time["max"].isoformat(),
        least=least,
        queries=len(memory),
        left_out=left_out,
        sids=len(memory.sid),
        simulated=bool(json_of(path.with_name("report.json"))["simulated"]),
    )
    if not dry_run:
        bundles.attach(bundle, MEMORY, lambda to: _write(memory, to, about))
    return about


def _write(memory: Memory, to: Path, about: Remembered) -> dict[str, object]:
    memory.write(to / FILE)
    return asdict(about)
