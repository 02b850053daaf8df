"""Requests to train on, tune on and test on: by whose query is judged, or by time as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from genrecall import files
from genrecall.config.logs import LogsSection
from genrecall.errors import UserError
from genrecall.records import REQUESTS, Split
from trainer.logs.leaks import check_no_leak
from trainer.logs.parts import DEV, NONE, TEST, TRAIN, RequestSplit, held_out
from trainer.logs.shuffle import open_table


class NoRequestsError(UserError):
    """All requests are held out."""


def split_requests(
    requests: pa.Table, split: Split, queries: pa.Table, logs: LogsSection, folder: Path | None = None
) -> RequestSplit:
    """Split requests as `logs.split` says, and check that nothing leaks.

    query: a request goes to dev or test when its text, or a reordering or inflection of it, is that of a query judged
        in `split.dev` or `split.test`; all others are trained on.
    time: the newest `test_share` are test, the `dev_share` before them dev; requests of one millisecond stay together.
        Older ones are trained on, unless their query is judged in dev or test: those are dropped.

    Args:
        requests: REQUESTS.
        split: of the dataset's judgments.
        queries: QUERIES that the judgments name.
        logs: `split`, `dev_share`, `test_share`.
        folder: where the parts are written, to be read as they are needed; None keeps them in memory.

    Raises:
        NoRequestsError: no request is left to train on.
        LeakError: as of `leaks.check_no_leak`.
    """
    part = held_out(requests["text"], split, queries)
    if logs.split == "time":
        late = parts_by_time(requests["timestamp"].to_numpy().astype("datetime64[ms]"), logs)
        part = np.where((late == TRAIN) & (part != TRAIN), np.int8(NONE), late)
    if not (part == TRAIN).any():
        raise NoRequestsError(
            f"logs.split={logs.split} leaves none of {len(requests):,} requests to train on: all are of judged queries "
            "or of one moment; use another logs.split, or logs.use=never"
        )
    names = {TRAIN: "train", DEV: "dev", TEST: "test"}
    train, dev, test = (
        _take(requests, part == code, folder and folder / f"{name}.arrow") for code, name in names.items()
    )
    parts = RequestSplit(train, dev, test, dropped=int((part == NONE).sum()))
    check_no_leak(requests, parts, split, queries, logs)
    return parts


def parts_by_time(time: np.ndarray, logs: LogsSection) -> np.ndarray:
    """int8 [n]: the newest are TEST, those before them DEV, the others TRAIN. time: datetime64[ms] [n]."""
    ordered, count = np.sort(time), len(time)
    tests = round(count * logs.test_share)
    devs = max(1, round(count * logs.dev_share))
    part = np.full(count, TRAIN, np.int8)
    if count:
        part[time >= ordered[max(0, count - tests - devs)]] = DEV
    if tests:
        part[time >= ordered[count - tests]] = TEST
    return part


def _take(requests: pa.Table, chosen: np.ndarray, path: Path | None) -> pa.Table:
    """The chosen rows; from disk where there is a path."""
    if path is None:
        return requests.filter(pa.array(chosen))
    with files.replacing(path) as partial, pa.ipc.new_file(partial, REQUESTS) as file:
        start = 0
        for batch in requests.to_batches():
            file.write_batch(batch.filter(pa.array(chosen[start : start + len(batch)])))
            start += len(batch)
    return open_table(path)
