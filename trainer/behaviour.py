"""What a run learns from besides the catalogue: judgments, logged requests, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from genrecall.config import Config
from genrecall.data.events import has_logs
from genrecall.data.rejects import Rejects
from genrecall.errors import UserError
from genrecall.progress import console
from genrecall.records import Dataset, Split, relevant
from trainer.logs import NoRequestsError, RequestSplit, prepare, query_targets


@dataclass(frozen=True)
class Behaviour:
    """The targets of queries, and what users did.

    Attributes:
        queries: QUERIES, those of the dataset and, with targets from the logs, the logged ones.
        train: JUDGMENTS to learn from: by people, or what was clicked and bought.
        pairs: those of `train` that the quantizer's query-item contrast learns from.
        requests: split into those to learn from and to hold out; None where there are no logs.
        from_logs: whether `train` is what was clicked and bought in them.
        report: figures of the logs, JSON-ready; empty where there are none.
    """

    queries: pa.Table
    train: pa.Table
    pairs: pa.Table
    requests: RequestSplit | None
    report: dict[str, Any]
    from_logs: bool = False

    @property
    def key(self) -> str:
        """Changes with the logs, their filters and their split."""
        return str(self.report.get("key", ""))


def behaviour_of(config: Config, dataset: Dataset, split: Split, progress: bool = True) -> Behaviour:
    """Read the logs where the dataset has some and `logs.use` does not forbid it, and choose the targets of queries.

    Requests of dev and test queries are held out (`logs.split`); a dataset without a judgment is split by time. Where
    that leaves no request (every logged query is judged, as `genrecall data judge` makes it, and held out), judgments
    alone are learned from, with a warning. Raises UserError where targets are to come from logs and there are none, and
    LeakError where anything held out would be trained on.
    """
    source = config.generator.sampling.targets_from
    parts: RequestSplit | None = None
    report: dict[str, Any] = {}
    if config.logs.use == "auto" and has_logs(config.data):
        folder = config.run.dir / "logs"
        with Rejects(folder / "rejected.jsonl") as rejects:
            try:
                parts, report = prepare(config.data, config.logs, dataset, split, folder, rejects, progress)
            except NoRequestsError as error:
                if source == "logs" or not split.train.num_rows:
                    raise
                told = f"warning: logs: {split.name} is learned from judgments alone: {error}"
                console.print(told, style="yellow", markup=False)
    elif source == "logs":
        raise UserError(
            f"generator.sampling.targets_from is logs, but {dataset.name} has none that may be used: bring "
            "ubi_queries and ubi_events, or set it to judgments"
        )
    if parts and (source == "logs" or (source == "auto" and not split.train.num_rows)):
        queries, judgments = query_targets(parts.train)
        return Behaviour(pa.concat_tables([dataset.queries, queries]), judgments, judgments, parts, report, True)
    return Behaviour(dataset.queries, split.train, relevant(split.train, config.data.relevant), parts, report)
