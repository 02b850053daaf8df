"""All that comes before learning from logs: requests, parts without a leak, and the report, in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from genrecall.config.data import DataSection
from genrecall.config.logs import LogsSection
from genrecall.data.rejects import Rejects
from genrecall.progress import console
from genrecall.records import Dataset, Split
from genrecall.reports import logs_report
from trainer.logs.parts import RequestSplit
from trainer.logs.requests import build_requests, open_requests
from trainer.logs.split import split_requests


def prepare(
    data: DataSection,
    logs: LogsSection,
    dataset: Dataset,
    split: Split,
    folder: Path,
    rejects: Rejects,
    progress: bool = True,
) -> tuple[RequestSplit, dict[str, Any]]:
    """The requests of the logs that `data` names, parted by `split` and `logs`, and the report (logs.json, .md, .png).

    Args and errors as of `build_requests` and `split_requests`; all of it lies in `folder`. Where nothing is judged no
    query is held out, so the parts are those of logs.split=time.
    """
    if not dataset.judgments.num_rows:
        logs = logs.model_copy(update={"split": "time"})
    path = build_requests(data, logs, dataset.items, folder, rejects, progress)
    parts = split_requests(open_requests(path), split, dataset.queries, logs, folder / split.name)
    counted = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    sizes = {"train": len(parts.train), "dev": len(parts.dev), "test": len(parts.test), "dropped": parts.dropped}
    facts = {**counted, "split": {"by": logs.split, **sizes}}
    logs_report(facts).write(folder)
    for note in facts["notes"]:
        console.print(f"warning: logs: {note}", style="yellow", markup=False)
    return parts, facts
